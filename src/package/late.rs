//! PURE. What a measurement point of a model says about its late readings: our key `late`, or the product's tag
//! `HistoryChannel`.

use super::fields::{Faults, Fields, word};
use crate::diagnostic::Diagnostic;
use crate::model::LatePolicy;

const TAG: &str = "HistoryChannel";

const WORDS: &[(&str, LatePolicy)] = &[
    ("real_channel", LatePolicy::RealChannel),
    ("his_channel", LatePolicy::HisChannel),
    ("remove", LatePolicy::Remove),
];

/// As the product writes them.
const TAG_WORDS: &[(&str, LatePolicy)] =
    &[("RealChannel", LatePolicy::RealChannel), ("HisChannel", LatePolicy::HisChannel), ("Remove", LatePolicy::Remove)];

/// The key and the tag may both stand there if they say the same.
pub fn read(point: &Fields<'_, '_>, faults: &mut Faults) -> Option<LatePolicy> {
    let key = point.word("late", WORDS, faults);
    let tag = tag(point, faults);
    match (key, tag) {
        (Some(key), Some(tag)) if key != tag => {
            let place = point.text("late", &mut Faults::new()).map_or(point.place.clone(), |text| text.place);
            faults.push(
                Diagnostic::error(place, format!("late and the tag {TAG} contradict each other"))
                    .help("remove one of them"),
            );
            None
        }
        (key, tag) => key.or(tag),
    }
}

fn tag(point: &Fields<'_, '_>, faults: &mut Faults) -> Option<LatePolicy> {
    point.complain_unless_map("tags", faults);
    // A free map: values of other tags may have any shape.
    let pairs = point.pairs("tags", &mut Faults::new());
    let (_, value) = pairs.iter().find(|(name, _)| name.text == TAG)?;
    word(TAG, value, TAG_WORDS, faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::joined;
    use crate::yaml;
    use std::sync::Arc;

    fn read_point(text: &str) -> (Option<LatePolicy>, String) {
        let file: Arc<str> = "m.yaml".into();
        let (node, _) = yaml::parse(&file, text);
        let node = node.expect("the text is yaml");
        let mut faults = Faults::new();
        let fields = Fields::open(&file, &node, "point", &["id", "late", "tags"], &mut faults).expect("a map");
        let policy = read(&fields, &mut faults);
        (policy, joined(&faults.finish()))
    }

    #[test]
    fn the_key_and_the_products_tag_are_understood() {
        for (text, policy) in [
            ("id: p", None),
            ("late: real_channel", Some(LatePolicy::RealChannel)),
            ("late: his_channel", Some(LatePolicy::HisChannel)),
            ("late: Remove", Some(LatePolicy::Remove)),
            ("tags: { HistoryChannel: RealChannel }", Some(LatePolicy::RealChannel)),
            ("tags: { other: [1, 2], HistoryChannel: Remove }", Some(LatePolicy::Remove)),
            ("tags: { historychannel: Remove }", None),
            ("{ late: remove, tags: { HistoryChannel: Remove } }", Some(LatePolicy::Remove)),
        ] {
            assert_eq!(read_point(text), (policy, String::new()), "{text}");
        }
    }

    #[test]
    fn other_words_and_contradictions_are_told_with_their_place() {
        let (policy, faults) = read_point("late: his_chanel");
        assert_eq!(policy, None);
        assert!(faults.contains("m.yaml:1:7") && faults.contains("did you mean his_channel?"), "{faults}");
        let (_, faults) = read_point("id: p\ntags:\n  HistoryChannel: RealChanel");
        assert!(faults.contains("m.yaml:3:19") && faults.contains("did you mean RealChannel?"), "{faults}");
        let (policy, faults) = read_point("late: remove\ntags: { HistoryChannel: HisChannel }");
        assert_eq!(policy, None);
        assert!(faults.contains("m.yaml:1:7: late and the tag HistoryChannel contradict each other"), "{faults}");
    }
}
