//! PURE. Which readings a destination takes: by kind of asset, device, model and measurement point.

use super::{DeviceNames, Names};
use serde::Serialize;

/// How the cloud knows an asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AssetKind {
    /// It has a product and device key and may travel over MQTT.
    Device,
    /// It has an asset id only and travels through the REST integration (R20, R21).
    Logic,
}

impl DeviceNames {
    /// Device or logic asset.
    #[must_use]
    pub fn kind(&self) -> AssetKind {
        if self.product_key.is_empty() { AssetKind::Logic } else { AssetKind::Device }
    }
}

/// What a destination wants. An empty list refuses nothing; all lists must agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Selection {
    pub kind: Option<AssetKind>,
    /// Names of devices, as people call them.
    pub devices: Vec<Glob>,
    pub models: Vec<Glob>,
    /// Ids of measurement points.
    pub points: Vec<Glob>,
}

impl Selection {
    /// Everything of one kind of asset.
    #[must_use]
    pub fn of_kind(kind: AssetKind) -> Selection {
        Selection { kind: Some(kind), ..Selection::default() }
    }

    /// By its kind, its name and its model.
    #[must_use]
    pub fn takes_device(&self, device: &DeviceNames) -> bool {
        self.kind.is_none_or(|kind| kind == device.kind())
            && any(&self.devices, &device.name)
            && any(&self.models, &device.points.model)
    }

    /// By its id alone.
    #[must_use]
    pub fn takes_point(&self, id: &str) -> bool {
        any(&self.points, id)
    }

    /// Globs that meet nothing of a package: most likely a slip of the pen.
    #[must_use]
    pub fn idle_globs(&self, names: &Names) -> Vec<Glob> {
        let idle = |globs: &'_ [Glob], meets: &dyn Fn(&Glob, &DeviceNames) -> bool| {
            let lost = |glob: &&Glob| !names.devices.iter().any(|device| meets(glob, device));
            globs.iter().filter(lost).cloned().collect::<Vec<_>>()
        };
        let mut all = idle(&self.devices, &|glob, d| glob.matches(&d.name));
        all.extend(idle(&self.models, &|glob, d| glob.matches(&d.points.model)));
        all.extend(idle(&self.points, &|glob, d| d.points.points.iter().any(|p| glob.matches(&p.id))));
        all
    }
}

fn any(globs: &[Glob], text: &str) -> bool {
    globs.is_empty() || globs.iter().any(|glob| glob.matches(text))
}

/// A name in which `*` stands for any run of characters, also for none. Letter case counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Glob(String);

impl Glob {
    #[must_use]
    pub fn new(text: &str) -> Glob {
        Glob(text.to_owned())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let Some((head, rest)) = self.0.split_once('*') else { return self.0 == text };
        let Some(mut text) = text.strip_prefix(head) else { return false };
        let mut parts: Vec<&str> = rest.split('*').collect();
        // What stands behind the last star must end the text; between stars the first place that fits is as good as any.
        let tail = parts.pop().unwrap_or_default();
        for part in parts {
            let Some(at) = text.find(part) else { return false };
            text = &text[at + part.len()..];
        }
        text.ends_with(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PointName, PointNames};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn device(name: &str, product_key: &str, model: &str) -> DeviceNames {
        let points = vec![PointName { id: "temp".into(), has_quality: false }];
        DeviceNames {
            name: name.into(),
            product_key: product_key.into(),
            device_key: product_key.into(),
            asset_id: None,
            points: Arc::new(PointNames { model: model.into(), points }),
        }
    }

    #[test]
    fn all_lists_must_agree_and_an_empty_one_refuses_nothing() {
        let (meter, server) = (device("Meter 1", "pk", "Meter"), device("Server", "", "Machine"));
        let all = Selection::default();
        assert!(all.takes_device(&meter) && all.takes_device(&server) && all.takes_point("x"));
        let logic = Selection::of_kind(AssetKind::Logic);
        assert!(!logic.takes_device(&meter) && logic.takes_device(&server));
        let some = Selection { devices: vec![Glob::new("Meter *")], models: vec![Glob::new("Machine")], ..all };
        assert!(!some.takes_device(&meter) && !some.takes_device(&server));
    }

    #[test]
    fn a_glob_that_meets_nothing_is_told() {
        let names = Names::new(vec![device("Meter 1", "pk", "Meter")]);
        let globs = |texts: &[&str]| texts.iter().map(|t| Glob::new(t)).collect::<Vec<_>>();
        let selection = Selection {
            kind: None,
            devices: globs(&["Meter*", "metre*"]),
            models: globs(&["M"]),
            points: globs(&["t*", "u"]),
        };
        assert_eq!(selection.idle_globs(&names), globs(&["metre*", "M", "u"]));
    }

    /// Star or letter, in the plainest way.
    fn plain(glob: &[char], text: &[char]) -> bool {
        match (glob, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=text.len()).any(|n| plain(rest, &text[n..])),
            ([g, glob @ ..], [t, text @ ..]) => g == t && plain(glob, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_glob_means_what_the_plainest_matcher_says(glob in "[ab中*]{0,7}", text in "[ab中]{0,9}") {
            let (g, t): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
            prop_assert_eq!(Glob::new(&glob).matches(&text), plain(&g, &t));
        }
    }
}
