//! PURE. Upload type, interval and dead-band, as a model presets them and a mapping overrides them.

use super::fields::{Faults, millis, misfit, word};
use crate::diagnostic::{Diagnostic, Place};
use crate::model::Upload;
use driver::Text;
use std::time::Duration;

/// The three texts of one measurement point; what is absent comes from the default.
#[derive(Clone, Debug, Default)]
pub struct UploadText {
    pub kind: Option<Text>,
    pub interval: Option<Text>,
    pub deadband: Option<Text>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Realtime,
    Timer,
    Change,
    ChangeTimer,
    Never,
}

const KINDS: &[(&str, Kind)] = &[
    ("realtime", Kind::Realtime),
    ("timer", Kind::Timer),
    ("change", Kind::Change),
    ("change_timer", Kind::ChangeTimer),
    ("never", Kind::Never),
    ("not_upload", Kind::Never),
];

impl UploadText {
    #[must_use]
    pub fn resolve(&self, default: Upload, place: &Place, faults: &mut Faults) -> Upload {
        let (kind, interval, deadband) = parts(default);
        let kind = self.kind.as_ref().and_then(|t| word("upload", t, KINDS, faults)).unwrap_or(kind);
        let interval_fits = self.interval.as_ref().and_then(|t| millis("upload_interval_ms", t, faults));
        let missing = self.interval.is_none() && interval.is_none();
        let interval = interval_fits.or(interval);
        let deadband = self.deadband.as_ref().and_then(|t| read_deadband(t, faults)).or(deadband).unwrap_or(0.0);
        if missing && matches!(kind, Kind::Timer | Kind::ChangeTimer) {
            let place = self.kind.as_ref().map_or(place, |kind| &kind.place).clone();
            let problem = "upload by timer without an interval";
            faults.push(Diagnostic::error(place, problem).help("write `upload_interval_ms: 60000`"));
        }
        let interval = interval.unwrap_or(Duration::from_secs(60));
        match kind {
            Kind::Realtime => Upload::Realtime,
            Kind::Timer => Upload::Timer(interval),
            Kind::Change => Upload::Change { deadband },
            Kind::ChangeTimer => Upload::ChangeTimer { deadband, interval },
            Kind::Never => Upload::Never,
        }
    }
}

fn parts(upload: Upload) -> (Kind, Option<Duration>, Option<f64>) {
    match upload {
        Upload::Realtime => (Kind::Realtime, None, None),
        Upload::Timer(interval) => (Kind::Timer, Some(interval), None),
        Upload::Change { deadband } => (Kind::Change, None, Some(deadband)),
        Upload::ChangeTimer { deadband, interval } => (Kind::ChangeTimer, Some(interval), Some(deadband)),
        Upload::Never => (Kind::Never, None, None),
    }
}

fn read_deadband(text: &Text, faults: &mut Faults) -> Option<f64> {
    let deadband = text.text.parse::<f64>().ok().filter(|d| d.is_finite() && *d >= 0.0);
    if deadband.is_none() {
        faults.push(misfit("deadband", text, "write a number from 0"));
    }
    deadband
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(kind: &str, interval: &str, deadband: &str, default: Upload) -> (Upload, usize) {
        let place = Place::new(&"m.yaml".into(), 1, 1);
        let text = |t: &str| (!t.is_empty()).then(|| Text { text: t.to_owned(), place: place.clone() });
        let mut faults = Faults::new();
        let texts = UploadText { kind: text(kind), interval: text(interval), deadband: text(deadband) };
        (texts.resolve(default, &place, &mut faults), faults.len())
    }

    #[test]
    fn a_mapping_overrides_only_what_it_says() {
        let model = Upload::ChangeTimer { deadband: 0.5, interval: Duration::from_secs(60) };
        let minute = Duration::from_secs(60);
        assert_eq!(resolve("", "", "", model), (model, 0));
        assert_eq!(resolve("CHANGE", "", "", model), (Upload::Change { deadband: 0.5 }, 0));
        assert_eq!(resolve("", "", "2", model), (Upload::ChangeTimer { deadband: 2.0, interval: minute }, 0));
        assert_eq!(resolve("timer", "1000", "", Upload::Realtime), (Upload::Timer(Duration::from_secs(1)), 0));
    }

    #[test]
    fn a_timer_needs_an_interval_and_a_dead_band_is_no_negative_number() {
        assert_eq!(resolve("timer", "", "", Upload::Realtime).1, 1);
        assert_eq!(resolve("timer", "0", "", Upload::Realtime).1, 1);
        assert_eq!(resolve("change", "", "-1", Upload::Realtime).1, 1);
        assert_eq!(resolve("change", "", "NaN", Upload::Realtime).1, 1);
        assert_eq!(resolve("sometimes", "", "", Upload::Realtime).1, 1);
    }
}
