//! Ids that come again: what counts as the same command, and for how long it is remembered.

use super::*;
use std::time::Duration;

fn config(most: usize) -> CommandConfig {
    CommandConfig { remember: Duration::from_secs(100), remember_most: most, ..CommandConfig::default() }
}

fn open(path: &Path) -> Window {
    Window::open(path, &config(1000), 0).unwrap().0
}

fn wish(id: &str, contents: &str) -> Identified {
    Identified { key: Key::new("enos", "set", id), contents: Digest::of(&[contents.as_bytes()]), issued: None }
}

fn done(data: Json) -> Outcome {
    Outcome::done(Data::Json(data))
}

#[test]
fn what_ended_is_answered_the_same_after_a_restart_and_what_did_not_was_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("window");
    let local = Identified { key: Key::new("local", "set", "1"), ..wish("1", "c") };
    let (one, two, three) = (wish("1", "c"), wish("2", "c"), local);
    let mut window = open(&path);
    assert_eq!(window.look(&one, 9).unwrap(), Seen::New);
    window.begin(&one, 5).unwrap();
    window.end(&one, &done(json!({"a": 1.5})), 6, true).unwrap();
    window.begin(&two, 7).unwrap();
    window.end(&three, &Outcome { code: 7, message: "né".into(), data: Data::Raw(vec![1, 255]) }, 8, false).unwrap();
    for window in [window, open(&path)] {
        assert_eq!(window.look(&one, 9).unwrap(), Seen::Done(done(json!({"a": 1.5})), 3));
        assert_eq!(window.look(&wish("1", "d"), 9).unwrap(), Seen::Other);
        assert_eq!(window.look(&two, 9).unwrap(), Seen::Interrupted);
        assert!(matches!(window.look(&three, 9).unwrap(), Seen::Done(o, 1) if o.data == Data::Raw(vec![1, 255])));
    }
}

#[test]
fn any_cut_of_the_file_leaves_what_was_whole_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("window");
    let key = |n: usize| wish(&n.to_string(), "c");
    let mut window = open(&path);
    let mut ends = vec![0];
    for n in 0..4 {
        window.begin(&key(n), 1).unwrap();
        ends.push(window.lines.len());
    }
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let window = open(&path);
        let known = ends[1..].iter().filter(|end| **end <= cut as u64).count();
        for n in 0..4 {
            let seen = window.look(&key(n), 9).unwrap();
            assert_eq!(seen, if n < known { Seen::Interrupted } else { Seen::New }, "cut at {cut}");
        }
    }
}

#[test]
fn a_flipped_bit_costs_its_line_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("window");
    let mut window = open(&path);
    window.begin(&wish("1", "c"), 1).unwrap();
    window.begin(&wish("2", "c"), 1).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (window, damaged) = Window::open(&path, &config(10), 1).unwrap();
    assert_eq!((damaged, window.entries.len()), (1, 1));
}

#[test]
fn the_file_and_the_memory_are_bounded_by_age_and_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("window");
    let mut window = Window::open(&path, &config(1000), 0).unwrap().0;
    for n in 0..1500i64 {
        let key = wish(&n.to_string(), "c");
        window.begin(&key, n * 1000).unwrap();
        window.end(&key, &done(json!({})), n * 1000, false).unwrap();
    }
    assert!(window.entries.len() <= 102, "{}", window.entries.len());
    assert!(window.lines.len() < 400_000, "{}", window.lines.len());
    let (again, damaged) = Window::open(&path, &config(1000), 1_499_000).unwrap();
    assert_eq!((again.entries.len(), damaged), (window.entries.len(), 0));
    assert_eq!(again.look(&wish("1499", "c"), 1_499_000).unwrap(), Seen::Done(done(json!({})), 0));
    let mut small = Window::open(&folder.path().join("small"), &config(2), 0).unwrap().0;
    small.begin(&wish("1", "c"), 1).unwrap();
    small.begin(&wish("2", "c"), 1).unwrap();
    assert!(matches!(small.begin(&wish("3", "c"), 1), Err(NotTaken::Full)), "they may still be good");
}

#[test]
fn a_full_disk_begins_nothing_and_forgets_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = open(&folder.path().join("window"));
    let (one, two) = (wish("1", "c"), wish("2", "c"));
    window.begin(&one, 1).unwrap();
    window.break_disk();
    assert!(matches!(window.begin(&two, 1), Err(NotTaken::Disk(_))));
    assert_eq!(window.look(&two, 9).unwrap(), Seen::New);
    window.end(&one, &done(json!({})), 1, true).unwrap_err();
    assert_eq!(window.look(&one, 9).unwrap(), Seen::Done(done(json!({})), 8));
}

const MINUTE: i64 = 60_000;

fn remembers_for_long() -> CommandConfig {
    CommandConfig { remember: Duration::from_secs(72 * 3600), ..CommandConfig::default() }
}

#[test]
fn ids_that_begin_again_are_new_commands_and_what_is_delivered_again_has_no_second_effect() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("window");
    let (low, high) = (wish("5", "low"), wish("5", "high"));
    let mut window = Window::open(&path, &remembers_for_long(), 0).unwrap().0;
    window.begin(&low, 0).unwrap();
    window.end(&low, &done(json!({})), MINUTE, true).unwrap();
    assert_eq!(window.look(&high, 11 * MINUTE - 1).unwrap(), Seen::Other, "ten minutes count from its end");
    assert_eq!(window.look(&high, 11 * MINUTE).unwrap(), Seen::New);
    window.begin(&high, 11 * MINUTE).unwrap();
    window.end(&high, &done(json!({})), 11 * MINUTE, true).unwrap();
    for window in [window, Window::open(&path, &remembers_for_long(), 0).unwrap().0] {
        let seen = |wish: &Identified, at: i64| window.look(wish, at * MINUTE).unwrap();
        assert_eq!(seen(&low, 12), Seen::Done(done(json!({})), 11 * MINUTE), "delivered again, after another one");
        assert_eq!(seen(&low, 48 * 60), Seen::Done(done(json!({})), (48 * 60 - 1) * MINUTE), "from a cache");
        assert_eq!(seen(&high, 12), Seen::Done(done(json!({})), MINUTE));
        assert_eq!(seen(&wish("5", "else"), 12), Seen::Other, "the newest counts");
    }
}

#[test]
fn what_was_issued_later_is_another_command_and_what_was_issued_then_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("window");
    let issued = |at: i64| Identified { issued: Some(at * MINUTE), ..wish("5", "c") };
    let mut window = Window::open(&path, &remembers_for_long(), 0).unwrap().0;
    // The caller's clock is an hour ahead of ours.
    window.begin(&issued(60), 0).unwrap();
    window.end(&issued(60), &done(json!({})), 0, true).unwrap();
    for window in [window, Window::open(&path, &remembers_for_long(), 0).unwrap().0] {
        for (again, new) in [(60, false), (70, false), (71, true), (-9999, false)] {
            let seen = window.look(&issued(again), 90 * MINUTE).unwrap();
            assert_eq!(seen == Seen::New, new, "issued at {again}");
        }
        assert!(matches!(window.look(&wish("5", "c"), 90 * MINUTE).unwrap(), Seen::Done(..)));
    }
}

#[test]
fn a_clock_that_is_set_after_the_start_forgets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("window");
    let one = wish("1", "c");
    let mut window = Window::open(&path, &remembers_for_long(), 1000).unwrap().0;
    window.begin(&one, 1000).unwrap();
    let now = 1_800_000_000_000;
    let again = Window::open(&path, &remembers_for_long(), now).unwrap().0;
    assert_eq!(again.look(&one, now).unwrap(), Seen::Interrupted);
    assert_eq!(again.last(), now);
}
