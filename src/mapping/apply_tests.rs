//! Claims about the step from samples to readings.

use super::*;
use crate::model::{Argument, Batch, DataType, Formula, Function, Measurepoint, Rule, Signal, Template, ThingModel};
use driver::{PointKind, PointTableBuilder, ValueType};

pub type Got = Vec<(i64, u32, u8, Value)>;

/// A template with one row an (a, b) and one measurement point a rule; points have a quality.
pub fn template(rows: &[(f64, f64)], rules: &[(DataType, Formula, Upload)]) -> Template {
    let file: Arc<str> = "point.csv".into();
    let mut builder = PointTableBuilder::new(&file, [1, 2, 3, 4, 5, 6, 7], vec![]);
    for (i, (a, b)) in rows.iter().enumerate() {
        builder.push(2 + i as u32, "p", &i.to_string(), ValueType::Double, PointKind::Ai, *a, *b, "", &[]);
    }
    let measurepoint = |i: usize, data_type: DataType| Measurepoint {
        id: format!("m{i}"),
        name: format!("m{i}"),
        data_type,
        signal: Signal::Ai,
        unit: None,
        has_quality: true,
        mandatory: false,
        upload: Upload::Realtime,
        late: None,
    };
    Template {
        name: "t".into(),
        model: Arc::new(ThingModel {
            id: "M".into(),
            name: "M".into(),
            parent: None,
            measurepoints: rules.iter().enumerate().map(|(i, rule)| measurepoint(i, rule.0)).collect(),
        }),
        table: Arc::new(builder.finish()),
        rules: rules
            .iter()
            .enumerate()
            .map(|(i, rule)| Rule { measurepoint: i as u32, formula: rule.1.clone(), upload: rule.2 })
            .collect(),
        controls: vec![],
        commands: crate::model::CommandRules::default(),
    }
}

/// Device 4 whose points begin at 0; polled rows may be 10 s old, row 5 is pushed.
pub fn device(template: &Template) -> DeviceMapper {
    let limit = |row| (row != 5).then_some(Duration::from_secs(10));
    DeviceMapper::new(Arc::new(Mapping::compile(template)), 4, 0, limit)
}

pub fn mapped(device: &mut DeviceMapper, samples: &[Sample], now: u64) -> Got {
    let mut builder = BatchBuilder::default();
    device.apply(samples, Duration::from_secs(now), &mut builder);
    readings(builder.finish(0))
}

pub fn readings(batch: Option<Batch>) -> Got {
    let mut got = Vec::new();
    for block in batch.iter().flat_map(Batch::blocks) {
        let block = block.unwrap();
        assert_eq!(block.device, 4);
        for entry in block.entries() {
            let entry = entry.unwrap();
            got.push((block.time.0, entry.point, entry.quality, entry.value.to_value()));
        }
    }
    got
}

fn equal(row: u32) -> Formula {
    Formula { function: Function::Equal, arguments: vec![Argument::Point(row)] }
}

fn formula(function: Function, rows: &[u32]) -> Formula {
    Formula { function, arguments: rows.iter().map(|row| Argument::Point(*row)).collect() }
}

fn good(point: u32, time: i64, value: f64) -> Sample {
    Sample { point, time: Timestamp(time), datum: Datum::Good(Value::Double(value)) }
}

fn bad(point: u32, time: i64) -> Sample {
    Sample { point, time: Timestamp(time), datum: Datum::Bad(Reason::NoAnswer) }
}

const PLAIN: (f64, f64) = (1.0, 0.0);

#[test]
fn one_row_may_feed_many_points_and_rows_without_a_rule_feed_none() {
    let rules = [
        (DataType::Double, equal(2), Upload::Realtime),
        (DataType::Int, equal(0), Upload::Realtime),
        (DataType::Float, equal(2), Upload::Realtime),
        (DataType::Double, equal(2), Upload::Never),
    ];
    let mut device = device(&template(&[(10.0, 1.0), PLAIN, PLAIN], &rules));
    let got = mapped(&mut device, &[good(0, 7, 2.0), good(1, 7, 3.0), good(2, 8, 4.5)], 0);
    assert_eq!(got, [(7, 1, 0, Value::Int(30)), (8, 0, 0, Value::Double(4.5)), (8, 2, 0, Value::Float(4.5)),]);
    assert_eq!(device.take_held(), 1);
}

#[test]
fn a_formula_waits_for_all_its_inputs_and_runs_once_a_batch() {
    let rules = [(DataType::Double, formula(Function::Sum, &[0, 1]), Upload::Realtime)];
    let mut device = device(&template(&[PLAIN, PLAIN], &rules));
    assert_eq!(mapped(&mut device, &[good(0, 1, 1.0)], 0), []);
    assert_eq!(mapped(&mut device, &[good(1, 2, 2.0), good(0, 1, 5.0)], 1), [(2, 0, 0, Value::Double(7.0))]);
    assert_eq!(mapped(&mut device, &[good(0, 3, 6.0)], 2), [(3, 0, 0, Value::Double(8.0))]);
}

#[test]
fn a_bad_input_clears_what_was_remembered_of_it() {
    let rules = [
        (DataType::Double, formula(Function::Sum, &[0, 1]), Upload::Realtime),
        (DataType::Double, equal(0), Upload::Realtime),
    ];
    let mut device = device(&template(&[PLAIN, PLAIN], &rules));
    mapped(&mut device, &[good(0, 1, 1.0), good(1, 1, 1.0)], 0);
    device.take_computed().for_each(drop);
    assert_eq!(mapped(&mut device, &[bad(0, 2)], 1), []);
    assert_eq!(device.take_computed().map(|c| c.datum).collect::<Vec<_>>(), [Datum::Bad(Reason::NoAnswer)]);
    assert_eq!(mapped(&mut device, &[good(1, 3, 1.0)], 2), [], "the old value of the other input is gone");
}

#[test]
fn a_formula_never_mixes_fresh_and_long_dead_inputs() {
    let rules = [
        (DataType::Double, formula(Function::Sum, &[0, 1]), Upload::Realtime),
        (DataType::Double, formula(Function::Sum, &[0, 5]), Upload::Realtime),
    ];
    let mut device = device(&template(&[PLAIN; 6], &rules));
    mapped(&mut device, &[good(0, 1, 1.0), good(1, 1, 1.0), good(5, 1, 10.0)], 0);
    assert_eq!(mapped(&mut device, &[good(0, 11, 2.0)], 10).len(), 2, "ten seconds are still allowed");
    let got = mapped(&mut device, &[good(0, 12, 3.0)], 11);
    assert_eq!(got, [(12, 1, 0, Value::Double(13.0))], "only what is pushed on change may be old");
}

#[test]
fn quality_is_the_worst_and_time_the_newest_of_the_inputs() {
    let rules = [(DataType::Double, formula(Function::Subtraction, &[0, 1]), Upload::Realtime)];
    let mut device = device(&template(&[PLAIN, PLAIN], &rules));
    let doubtful = Datum::Uncertain(Value::Double(1.0), Reason::StatusCode(0x4090_0000));
    let got = mapped(&mut device, &[good(0, 9, 3.0), Sample { point: 1, time: Timestamp(5), datum: doubtful }], 0);
    assert_eq!(got, [(9, 0, 7, Value::Double(2.0))]);
}

#[test]
fn two_results_of_a_formula_never_share_a_millisecond_unless_they_are_one() {
    let rules = [(DataType::Double, formula(Function::Sum, &[0, 1]), Upload::Realtime)];
    let mut device = device(&template(&[PLAIN, PLAIN], &rules));
    mapped(&mut device, &[good(0, 1_000, 1.0), good(1, 900, 1.0)], 0);
    assert_eq!(mapped(&mut device, &[good(1, 1_000, 4.0)], 1), [(1_001, 0, 0, Value::Double(5.0))]);
    assert_eq!(mapped(&mut device, &[good(1, 1_000, 4.0)], 2), [(1_001, 0, 0, Value::Double(5.0))]);
    assert_eq!(mapped(&mut device, &[good(0, 1_002, 1.0)], 3), [(1_002, 0, 0, Value::Double(5.0))]);
}

#[test]
fn a_division_by_zero_is_no_reading_and_says_so() {
    let rules = [(DataType::Double, formula(Function::Ratio, &[0, 1]), Upload::Realtime)];
    let mut device = device(&template(&[PLAIN, PLAIN], &rules));
    assert_eq!(mapped(&mut device, &[good(0, 1, 1.0), good(1, 1, 0.0)], 0), []);
    assert_eq!(device.take_computed().map(|c| c.datum).collect::<Vec<_>>(), [Datum::Bad(Reason::OutOfRange)]);
}

#[test]
fn a_quiet_device_still_sends_its_timer_values_on_time() {
    let rules = [(DataType::Double, equal(0), Upload::Timer(Duration::from_secs(60)))];
    let mut device = device(&template(&[PLAIN], &rules));
    assert_eq!(mapped(&mut device, &[good(0, 1, 1.0)], 0).len(), 1);
    assert_eq!(device.wakes_at(), None);
    assert_eq!(mapped(&mut device, &[good(0, 2, 2.0)], 5), []);
    assert_eq!(device.wakes_at(), Some(Duration::from_secs(60)));
    let mut builder = BatchBuilder::default();
    device.tick(Duration::from_secs(60), &mut builder);
    device.tick(Duration::from_secs(120), &mut builder);
    assert_eq!(readings(builder.finish(0)), [(2, 0, 0, Value::Double(2.0))]);
}

#[test]
fn points_of_other_devices_are_ignored() {
    let template = template(&[PLAIN], &[(DataType::Double, equal(0), Upload::Realtime)]);
    let mut device = DeviceMapper::new(Arc::new(Mapping::compile(&template)), 4, 10, |_| None);
    assert_eq!(mapped(&mut device, &[good(9, 1, 1.0), good(11, 1, 1.0)], 0), []);
    assert_eq!(mapped(&mut device, &[good(10, 1, 1.0)], 0).len(), 1);
}

/// Prints what one value costs. Run: `cargo test --release -p enos-edge --lib -- --ignored --nocapture mapping_costs`
#[test]
#[ignore = "a measurement, meant for a release build"]
fn mapping_costs_little() {
    const ROWS: usize = 1000;
    let rules: Vec<_> = (0..ROWS as u32).map(|row| (DataType::Float, equal(row), Upload::Realtime)).collect();
    let mut device = device(&template(&vec![(0.1, 0.0); ROWS], &rules));
    let samples: Vec<_> = (0..ROWS as u32).map(|i| good(i, 1_700_000_000_000, f64::from(i))).collect();
    let mut builder = BatchBuilder::default();
    let (rounds, began) = (2000u32, std::time::Instant::now());
    for round in 0..rounds {
        device.apply(&samples, Duration::from_secs(u64::from(round)), &mut builder);
        std::hint::black_box(builder.finish(0));
    }
    let each = began.elapsed() / rounds / ROWS as u32;
    println!("mapping and encoding: {each:?} a value");
    assert!(each < Duration::from_nanos(150), "{each:?}");
}
