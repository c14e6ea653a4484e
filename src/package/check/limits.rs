//! PURE. What EnOS accepts as a name, a key, an identifier and a description.

use crate::diagnostic::Diagnostic;
use crate::model::names::fits_in_key;
use crate::package::fields::Faults;
use driver::Text;

/// Names of models, products and assets; product keys and device keys.
const NAME_CHARS: usize = 64;

const DESCRIPTION_CHARS: usize = 100;

const RULE_ID_CHARS: usize = 50;

/// As much as a secret of a file may have.
const SECRET_CHARS: usize = 1024;

/// A name people read: 1 to 64 characters, whatever the script.
pub fn name(what: &str, text: &Text, faults: &mut Faults) {
    length(what, text, NAME_CHARS, faults);
    if text.text.chars().any(char::is_control) {
        refuse(text, format!("{what} holds a control character"), "retype the name", faults);
    }
}

pub fn description(text: &Text, faults: &mut Faults) {
    let count = text.text.chars().count();
    if count > DESCRIPTION_CHARS {
        let problem = format!("description has {count} characters; EnOS takes {DESCRIPTION_CHARS}");
        refuse(text, problem, "shorten it", faults);
    }
}

/// A product key or device key: Chinese characters, letters, digits, dash, underscore and period.
pub fn key(what: &str, text: &Text, faults: &mut Faults) {
    length(what, text, NAME_CHARS, faults);
    if let Some(bad) = text.text.chars().find(|c| !fits_in_key(*c)) {
        let problem = format!("{what} \"{}\" holds {bad:?}", text.text);
        refuse(text, problem, "use Chinese characters, letters, digits, - _ and . only", faults);
    }
}

/// A device secret is one word; what was copied with a blank or a line break in it signs nothing. Never shown.
pub fn secret(text: &Text, faults: &mut Faults) {
    let help = "copy the secret from the cloud once more, without blanks";
    match text.text.chars().count() {
        0 => refuse(text, "the device secret is empty".to_owned(), help, faults),
        count if count > SECRET_CHARS => {
            refuse(text, format!("the device secret has {count} characters; at most {SECRET_CHARS} fit"), help, faults);
        }
        _ if text.text.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            refuse(text, "the device secret holds a blank or a control character".to_owned(), help, faults);
        }
        _ => {}
    }
}

/// The identifier of a model, a measurement point and their like: no blanks, nothing that means something in a topic.
pub fn identifier(what: &str, text: &Text, faults: &mut Faults) {
    length(what, text, NAME_CHARS, faults);
    let fits = |c: char| c.is_alphanumeric() || "-_.:".contains(c);
    if let Some(bad) = text.text.chars().find(|c| !fits(*c)) {
        let problem = format!("{what} \"{}\" holds {bad:?}", text.text);
        refuse(text, problem, "use letters, digits, - _ . and : only", faults);
    }
}

/// The identifier of an event rule.
pub fn rule_id(text: &Text, faults: &mut Faults) {
    length("rule id", text, RULE_ID_CHARS, faults);
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if let Some(bad) = text.text.chars().find(|c| !fits(*c)) {
        let problem = format!("rule id \"{}\" holds {bad:?}", text.text);
        refuse(text, problem, "use letters, digits, . _ and - only", faults);
    }
}

fn length(what: &str, text: &Text, most: usize, faults: &mut Faults) {
    match text.text.chars().count() {
        0 => refuse(text, format!("{what} is empty"), &format!("write 1 to {most} characters"), faults),
        count if count > most => {
            let problem = format!("{what} has {count} characters; EnOS takes {most}");
            refuse(text, problem, &format!("write 1 to {most} characters"), faults);
        }
        _ => {}
    }
}

fn refuse(text: &Text, problem: String, help: &str, faults: &mut Faults) {
    faults.push(Diagnostic::error(text.place.clone(), problem).help(help));
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::Place;

    fn text(text: &str) -> Text {
        Text { text: text.to_owned(), place: Place::new(&"a".into(), 1, 1) }
    }

    fn count(check: impl Fn(&Text, &mut Faults), word: &str) -> usize {
        let mut faults = Faults::new();
        check(&text(word), &mut faults);
        faults.len()
    }

    #[test]
    fn keys_take_chinese_letters_digits_and_three_signs() {
        let key = |t: &Text, f: &mut Faults| super::key("device key", t, f);
        for good in ["a", "电表-1", "A_b.c-9", &"表".repeat(64)] {
            assert_eq!(count(key, good), 0, "{good}");
        }
        for bad in ["", "a b", "a/b", "a:b", "é", "a，b", &"表".repeat(65)] {
            assert_eq!(count(key, bad), 1, "{bad}");
        }
    }

    #[test]
    fn lengths_count_characters_not_bytes() {
        assert_eq!(count(|t, f| name("name", t, f), &"电".repeat(64)), 0);
        assert_eq!(count(|t, f| name("name", t, f), &"x".repeat(65)), 1);
        assert_eq!(count(description, &"电".repeat(100)), 0);
        assert_eq!(count(description, &"x".repeat(101)), 1);
        assert_eq!(count(rule_id, &"x".repeat(51)), 1);
        assert_eq!(count(rule_id, "规则"), 1);
    }
}
