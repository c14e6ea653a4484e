//! Rules at work, minute by minute.

use super::*;
use crate::model::event_rule::{Condition, Scope, Threshold, Watched};
use crate::model::{BatchBuilder, DeviceNames, PointNames};

const S: fn(u64) -> Duration = Duration::from_secs;

fn rule(id: &str, compare: Compare, limit: f64, delay: u64) -> EventRule {
    EventRule {
        id: id.to_owned(),
        model: "M".to_owned(),
        measurepoint: 0,
        conditions: vec![Condition { compare, threshold: Threshold::Number(limit) }],
        matching: Match::All,
        delay: S(delay),
        severity: "warning".to_owned(),
        content: None,
        event: id.to_owned(),
        outputs: None,
        point: "u".to_owned(),
        scope: Scope::All,
        masking: false,
        enabled: true,
    }
}

/// Device 0 at the plant, device 1 in a hall of it; all rules watch both.
fn engine(rules: Vec<EventRule>, limit: Limit) -> Engine {
    let points = Arc::new(PointNames { model: "M".to_owned(), points: Vec::new() });
    let device = |name: &str| DeviceNames {
        name: name.to_owned(),
        product_key: "pk".to_owned(),
        device_key: name.to_owned(),
        asset_id: None,
        points: Arc::clone(&points),
    };
    let names = Arc::new(Names::new(vec![device("a"), device("b")]));
    let watched: Vec<Watched> =
        (0..rules.len()).map(|at| Watched { rule: at as u32, limits: vec![limit.clone()] }).collect();
    let plan = EventPlan {
        rules,
        watched: HashMap::from([(0, watched.clone()), (1, watched)]),
        sites: HashMap::from([(0, vec!["plant".to_owned()]), (1, vec!["hall".to_owned(), "plant".to_owned()])]),
    };
    Engine::new(Arc::new(plan), names)
}

fn say(engine: &mut Engine, device: u32, at: u64, value: Value) -> Vec<(u32, bool)> {
    let mut builder = BatchBuilder::default();
    builder.begin(device, Timestamp(at as i64 * 1000));
    builder.push(0, 0, &value);
    let batch = builder.finish(engine.names().epoch).unwrap();
    engine.readings(&batch, S(at)).into_iter().map(|raised| (raised.device, raised.begins)).collect()
}

#[test]
fn an_event_begins_once_and_ends_once() {
    let mut e = engine(vec![rule("over", Compare::Above, 250.0, 0)], Limit::Number(250.0));
    assert_eq!(say(&mut e, 0, 1, Value::Float(250.0)), []);
    assert_eq!(say(&mut e, 0, 2, Value::Float(250.5)), [(0, true)]);
    assert_eq!(say(&mut e, 0, 3, Value::Float(300.0)), []);
    assert!(e.going_on().count() == 1 && !e.is_waiting());
    assert_eq!(say(&mut e, 1, 3, Value::Float(251.0)), [(1, true)], "each device by itself");
    assert_eq!(say(&mut e, 0, 4, Value::Float(1.0)), [(0, false)]);
    assert_eq!(say(&mut e, 0, 5, Value::Float(1.0)), []);
}

#[test]
fn the_delay_begins_anew_when_the_condition_stops_holding() {
    // The documented example: three minutes; true at 1 and 2, false at 3, true from 4 on: fires at 7, ends at 8.
    let mut e = engine(vec![rule("over", Compare::Above, 10.0, 180)], Limit::Number(10.0));
    let minutes = [(1, 11.0), (2, 12.0), (3, 9.0), (4, 13.0), (5, 14.0), (6, 15.0)];
    for (minute, value) in minutes {
        assert_eq!(say(&mut e, 0, minute * 60, Value::Double(value)), [], "{minute}");
        assert!(e.tick(S(minute * 60 + 59)).is_empty(), "{minute}");
    }
    let fired = e.tick(S(7 * 60));
    assert_eq!(fired.len(), 1);
    assert_eq!(
        (&fired[0].value, fired[0].time),
        (&Value::Double(13.0), Timestamp(7 * 60_000)),
        "the value at its begin"
    );
    assert!(e.tick(S(7 * 60 + 1)).is_empty());
    assert_eq!(say(&mut e, 0, 8 * 60, Value::Double(9.0)), [(0, false)]);
}

#[test]
fn samples_every_half_minute_fire_a_delay_of_a_minute_with_the_third() {
    let mut e = engine(vec![rule("over", Compare::Above, 10.0, 60)], Limit::Number(10.0));
    assert_eq!(say(&mut e, 0, 0, Value::Int(11)), []);
    assert_eq!(say(&mut e, 0, 30, Value::Int(11)), []);
    assert!(e.is_waiting());
    assert_eq!(say(&mut e, 0, 60, Value::Int(11)), [(0, true)]);
}

#[test]
fn every_operator_compares_numbers_flags_and_texts() {
    use Compare::{Above, AtLeast, AtMost, Below, Equal, NotEqual};
    for (compare, below, at, above) in [
        (Above, false, false, true),
        (AtLeast, false, true, true),
        (Below, true, false, false),
        (AtMost, true, true, false),
        (Equal, false, true, false),
        (NotEqual, true, false, true),
    ] {
        let fit = |value| fits(compare, value, &Limit::Number(0.1));
        let floats = [0.05f32, 0.1, 0.2].map(|value| fit(ValueRef::Float(value)));
        let doubles = [0.05f64, 0.1, 0.2].map(|value| fit(ValueRef::Double(value)));
        assert_eq!((floats, doubles), ([below, at, above], [below, at, above]), "{compare:?}");
    }
    let run = Limit::Text("run".to_owned());
    assert!(fits(Equal, ValueRef::Text("run"), &run) && !fits(Equal, ValueRef::Text("stop"), &run));
    assert!(fits(NotEqual, ValueRef::Text("stop"), &run) && !fits(Above, ValueRef::Text("stop"), &run));
    assert!(fits(Equal, ValueRef::Bool(true), &Limit::Number(1.0)) && !fits(Equal, ValueRef::Int(2), &run));
}

#[test]
fn any_or_all_of_several_conditions() {
    let mut both = rule("band", Compare::Above, 10.0, 0);
    both.conditions.push(Condition { compare: Compare::Below, threshold: Threshold::Number(20.0) });
    let limits = [Limit::Number(10.0), Limit::Number(20.0)];
    let hold = |rule: &EventRule| [5.0, 15.0, 25.0].map(|v| holds(rule, &limits, ValueRef::Double(v)));
    assert_eq!(hold(&both), [false, true, false]);
    both.matching = Match::Any;
    assert_eq!(hold(&both), [true, true, true]);
}

#[test]
fn a_masking_event_hides_what_lies_below_its_site_until_it_is_over() {
    let mut outage = rule("outage", Compare::Below, 1.0, 0);
    outage.masking = true;
    let mut e = engine(vec![outage], Limit::Number(1.0));
    assert_eq!(say(&mut e, 0, 1, Value::Int(0)), [(0, true)], "the plant");
    assert_eq!(say(&mut e, 1, 2, Value::Int(0)), [], "the hall in it follows from it");
    assert!(e.tick(S(3)).is_empty());
    assert_eq!(say(&mut e, 0, 4, Value::Int(5)), [(0, false)]);
    let left: Vec<_> = e.tick(S(5)).into_iter().map(|raised| (raised.device, raised.begins)).collect();
    assert_eq!(left, [(1, true)], "and is told when the plant is well and it is not");
}

#[test]
fn another_package_goes_on_with_what_holds_and_readings_of_the_old_one_are_let_pass() {
    let e = || engine(vec![rule("over", Compare::Above, 10.0, 0)], Limit::Number(10.0));
    let mut old = e();
    assert_eq!(say(&mut old, 0, 1, Value::Int(11)), [(0, true)]);
    let same = e();
    let mut next = old.replaced(Arc::clone(&same.plan), Arc::clone(&same.names));
    assert_eq!(say(&mut next, 0, 2, Value::Int(12)), [], "it was told already");
    assert_eq!(say(&mut next, 0, 3, Value::Int(1)), [(0, false)]);
    let other = engine(vec![rule("over", Compare::Above, 5.0, 0)], Limit::Number(5.0));
    let mut changed = old.replaced(Arc::clone(&other.plan), Arc::clone(&other.names));
    assert_eq!(say(&mut changed, 0, 2, Value::Int(12)), [(0, true)], "another rule begins anew");
    let mut builder = BatchBuilder::default();
    builder.begin(0, Timestamp(9));
    builder.push(0, 0, &Value::Int(1));
    let stale = builder.finish(changed.names().epoch + 1).unwrap();
    assert!(changed.readings(&stale, S(9)).is_empty());
}

#[test]
fn a_reading_that_comes_late_says_nothing_of_now() {
    let mut e = engine(vec![rule("over", Compare::Above, 10.0, 0)], Limit::Number(10.0));
    assert_eq!(say(&mut e, 0, 20, Value::Int(11)), [(0, true)]);
    assert_eq!(say(&mut e, 0, 10, Value::Int(1)), [], "an older value ends nothing");
    assert_eq!(say(&mut e, 0, 20, Value::Int(1)), [(0, false)]);
}

#[test]
fn what_goes_on_or_is_hidden_costs_nothing_each_second() {
    let mut outage = rule("outage", Compare::Below, 1.0, 0);
    outage.masking = true;
    let mut e = engine(vec![outage], Limit::Number(1.0));
    assert_eq!(say(&mut e, 0, 1, Value::Int(0)), [(0, true)]);
    assert_eq!(say(&mut e, 1, 2, Value::Int(0)), []);
    assert!(!e.is_waiting(), "nothing comes of it without another reading");
    assert_eq!(say(&mut e, 0, 4, Value::Int(5)), [(0, false)]);
    assert!(e.is_waiting());
    assert_eq!(say(&mut e, 1, 4, Value::Int(5)), []);
    assert!(!e.is_waiting() && e.tick(S(9)).is_empty() && e.hidden.is_empty(), "it is over before it was told");
}

#[test]
fn a_package_without_the_mask_tells_what_was_hidden() {
    let masking = |masking| {
        let outage = EventRule { masking, ..rule("outage", Compare::Below, 1.0, 0) };
        engine(vec![outage, rule("low", Compare::Below, 1.0, 0)], Limit::Number(1.0))
    };
    let mut e = masking(true);
    say(&mut e, 0, 1, Value::Int(0));
    assert_eq!(say(&mut e, 1, 2, Value::Int(0)), []);
    let plain = masking(false);
    let mut next = e.replaced(Arc::clone(&plain.plan), Arc::clone(&plain.names));
    assert!(next.is_waiting(), "the rule that is as before goes on");
    assert!(next.tick(S(3)).iter().any(|one| one.device == 1 && one.begins));
}
