//! `package diff` and the switch ask the same question: whatever a change does, both say the same.

use enos_edge::model::Inlet;
use enos_edge::outbox;
use enos_edge::package::check::Checked;
use enos_edge::package::diff::{Memory, compare};
use enos_edge::package::scaffold::{self, Wanted};
use enos_edge::south::South;
use enos_edge::south::protocols::Protocols;
use std::sync::Arc;
use std::time::Duration;

/// A text of a file, and what takes its place.
type Change = (&'static str, &'static str, &'static str);

const SECOND: &str = "devices:\n  - { name: Device 2, product_key: p, device_key: d2, device_secret: s, template: device, connection: line-1, address: \"2\" }\n";

/// What is changed, and whether the connection goes on.
const CHANGES: &[(&[Change], bool)] = &[
    (&[], true),
    (&[("package.yaml", "version: 0", "version: 9")], true),
    (&[("connections/line-1.yaml", "scan_period_ms: 1000", "scan_period_ms: 900")], false),
    (&[("connections/line-1.yaml", "name: line-1", "description: words\nname: line-1")], true),
    (&[("assets.yaml", "devices:\n", SECOND)], false),
    (&[("assets.yaml", "name: Device 1", "name: Device One")], false),
    (&[("models/model.yaml", "unit: °C", "unit: K")], false),
    (&[("templates/device/mapping.yaml", "ai.sine1", "pi.sine2")], false),
];

fn checked(change: &[Change]) -> Checked {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("p");
    scaffold::create(&folder, &Wanted { name: "p", protocol: "virtual", model: None }).unwrap();
    for (file, from, to) in change {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(folder.join(file), text.replacen(from, to, 1)).unwrap();
    }
    let checked = enos_edge::package::check(&folder, &Protocols::new(home.path()).list());
    assert_eq!(checked.errors(), 0, "{:?}", checked.diagnostics);
    checked
}

#[tokio::test]
async fn what_is_said_to_be_opened_anew_is_what_the_switch_opens_anew() {
    let (home, old) = (tempfile::tempdir().unwrap(), checked(&[]));
    let site = old.site.as_ref().unwrap();
    let config = enos_edge::config::OutboxConfig { disk_reserve_bytes: 0, ..Default::default() };
    let counters = Arc::default();
    let outbox =
        outbox::open(home.path(), &config, &[super::CLOUD.into()], Arc::clone(&site.names), Arc::clone(&counters));
    let outbox = outbox.unwrap();
    let inlet: Arc<dyn Inlet> = outbox.inlet();
    for (change, goes_on) in CHANGES {
        let mut new = checked(change);
        let told = compare(&old, &new, &Memory::default()).unwrap();
        let south = South::start(site, Arc::clone(&inlet), Arc::clone(&counters));
        let next = Arc::new(new.site.take().unwrap());
        outbox.use_names(Arc::clone(&next.names));
        let applied = south.apply(&next, Duration::from_secs(1)).await;
        assert_eq!((told.kept, &told.restarted), (applied.kept.len(), &applied.started), "{change:?}");
        assert_eq!(told.kept == 1, *goes_on, "{change:?}");
        south.stop(Duration::from_secs(1)).await;
    }
}
