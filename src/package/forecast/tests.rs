//! Forecasts of small packages, worked out by hand.

use super::*;
use crate::package::scaffold::{self, Wanted};

fn forecast(protocol: &str, change: &[(&str, &str, &str)]) -> Forecast {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("p");
    scaffold::create(&folder, &Wanted { name: "p", protocol, model: None }).unwrap();
    for (file, from, to) in change {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(folder.join(file), text.replace(from, to)).unwrap();
    }
    let [tcp, rtu, over_tcp] = modbus::protocols();
    let site = super::super::load(&folder, &[tcp, rtu, over_tcp, &virtual_source::Virtual], None).unwrap();
    of(&site, &Basis::default())
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= expected.abs() * 0.001 + 1e-9
}

#[test]
fn rates_follow_periods_and_upload_rules() {
    // running: change; temperature: each second; energy: every minute.
    let forecast = forecast("virtual", &[]);
    assert!(near(forecast.values_per_s, 3.0), "{forecast:?}");
    assert!(near(forecast.readings_per_s.least, 1.0 + 1.0 / 60.0), "{forecast:?}");
    assert!(near(forecast.readings_per_s.most, 2.0 + 1.0 / 60.0), "{forecast:?}");
    // One scan a second, 20 ms of linger.
    assert!(near(forecast.messages_per_day.most, 86_400.0 / 1.02), "{forecast:?}");
    assert!(forecast.lines[0].busy.is_none(), "virtual points cost no line anything");
}

/// One request of 8 bytes and an answer of 5 + 18: 31 characters of 10 bits at 9600 baud, and twice 3.5 characters of silence.
#[test]
fn a_serial_line_is_reckoned_in_bits() {
    let forecast_1s = forecast("modbus-rtu", &[]);
    let line = &forecast_1s.lines[0];
    assert!(near(line.busy.unwrap(), 38.0 * 10.0 / 9600.0), "{line:?}");
    assert_eq!((line.requests_per_s, line.bytes_per_s, line.missed.len()), (Some(1.0), Some(31.0), 0));
    let slow = forecast(
        "modbus-rtu",
        &[
            ("connections/line-1.yaml", "baud_rate: 9600", "baud_rate: 1200"),
            ("connections/line-1.yaml", "scan_period_ms: 1000", "scan_period_ms: 100"),
        ],
    );
    let line = &slow.lines[0];
    assert!(near(line.busy.unwrap(), 38.0 * 10.0 / 1200.0 / 0.1), "{line:?}");
    assert_eq!(line.missed.len(), 1);
    assert!(near(line.missed[0].becomes.as_secs_f64(), 38.0 * 10.0 / 1200.0), "{line:?}");
    assert!(report::text(&slow).contains("period 100ms can not be met, 316.7ms at best"), "{}", report::text(&slow));
}

#[test]
fn tcp_says_how_fast_answers_must_be() {
    let forecast =
        forecast("modbus-tcp", &[("connections/line-1.yaml", "scan_period_ms: 1000", "scan_period_ms: 500")]);
    let line = &forecast.lines[0];
    assert_eq!(
        (line.requests_per_s, line.busy, line.bytes_per_s),
        (Some(2.0), Some(0.0), Some(2.0 * (12.0 + 9.0 + 18.0)))
    );
    assert_eq!(line.answer_within, Some(Duration::from_millis(500)));
}

#[test]
fn the_outbox_lasts_as_long_as_quota_and_age_allow() {
    let forecast = forecast("virtual", &[]);
    assert_eq!(forecast.outbox_hours, Range { least: 720.0, most: 720.0 }, "a month of three points fits");
    let dense =
        super::tests::forecast("virtual", &[("connections/line-1.yaml", "scan_period_ms: 1000", "scan_period_ms: 1")]);
    let most = (1u64 << 30) as f64 / (1000.0 * 1.8 + 1000.0 * 3.5 + 3.5 / 60.0) / 3600.0;
    assert!(near(dense.outbox_hours.least, most), "{dense:?}");
}

#[test]
fn numbers_read_well() {
    assert_eq!([0.0, 0.25, 9.0, 10.4, 1_234_567.8].map(report::number), ["0", "0.2", "9", "10", "1 234 568"]);
}
