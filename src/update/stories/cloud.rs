//! A cloud that acknowledges everything at once, and remembers it.

use super::*;

#[derive(Default)]
pub(super) struct Cloud {
    pub(super) said: Mutex<Vec<Saying>>,
    pub(super) unheard: Mutex<Vec<Saying>>,
    pub(super) news: Notify,
    pub(super) name: Mutex<Option<String>>,
}

impl Ear for Cloud {
    fn say(&self, saying: Saying) {
        self.said.lock().unwrap().push(saying.clone());
        self.unheard.lock().unwrap().push(saying);
        self.news.notify_one();
    }

    fn call_oneself(&self, version: Option<String>) {
        *self.name.lock().unwrap() = version;
    }

    fn heard(&self) -> Answer<'_, Vec<Saying>> {
        Box::pin(async {
            loop {
                let unheard = std::mem::take(&mut *self.unheard.lock().unwrap());
                if !unheard.is_empty() {
                    return unheard;
                }
                self.news.notified().await;
            }
        })
    }
}

impl Cloud {
    /// Progress by job, without repetitions.
    pub(super) fn steps(&self) -> Vec<i32> {
        let said = self.said.lock().unwrap();
        let steps = said.iter().filter_map(|saying| match &saying.what {
            Said::Progress { step, .. } => Some(*step),
            Said::Version(_) => None,
        });
        let mut steps: Vec<i32> = steps.collect();
        steps.dedup();
        steps
    }

    pub(super) fn versions(&self) -> Vec<String> {
        let said = self.said.lock().unwrap();
        said.iter()
            .filter_map(|saying| match &saying.what {
                Said::Version(version) => Some(version.clone()),
                Said::Progress { .. } => None,
            })
            .collect()
    }
}
