//! Another package on a standing connection.

use crate::broker::Broker;
use crate::gateway::{Gateway, config, credentials, healthy, now};
use crate::outlet::{Store, batch, names};
use enos_edge::cloud::{self, CloudExtras, CloudPorts, CloudSite, CloudUpdate, RosterDesk, Status};
use enos_edge::model::Names;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

#[tokio::test]
async fn another_package_keeps_the_connection_and_the_logins_of_those_who_stay() {
    let broker = Broker::start(healthy).await;
    let before = names(3, 4);
    let rosters = Arc::<RosterDesk>::default();
    let (store, status, counters) = (Store::new(Arc::clone(&before)), Arc::<Status>::default(), Arc::default());
    let (stop, stopped) = watch::channel(false);
    let config = config(broker.address);
    let simple = CloudPorts::simple(
        Arc::clone(&store) as _,
        config.device_secret.clone(),
        Arc::clone(&counters),
        Arc::clone(&status),
    );
    let extras = CloudExtras { rosters: Arc::clone(&rosters), ..CloudExtras::default() };
    let site = CloudSite { names: Arc::clone(&before), credentials: credentials(&before) };
    let task = tokio::spawn(cloud::run(config, site, CloudPorts { extras, ..simple }, stopped));
    let gateway = Gateway { store, status, counters, stop, task };
    gateway.store.add(true, batch(&before, &[0, 1, 2], 4, now()));
    gateway.store.until_acknowledged(1).await;

    // The second one is gone, a new one stands first, so the others have other numbers.
    let all = names(4, 4);
    let after: Vec<_> = [3, 2, 0].iter().map(|at: &usize| all.devices[*at].clone()).collect();
    let after = Arc::new(Names::new(after));
    rosters.put(CloudUpdate {
        site: CloudSite { names: Arc::clone(&after), credentials: credentials(&after) },
        field: None,
        models: Vec::new(),
        details: Vec::new(),
    });
    assert!(rosters.ready(after.epoch, Duration::from_secs(10)).await);
    // What was read under the old names still goes, the removed device included.
    gateway.store.add(true, batch(&before, &[0, 1, 2], 4, now()));
    gateway.store.until_acknowledged(2).await;
    let shown = gateway.status.snapshot().sub_devices;
    let keys: Vec<&str> = shown.iter().map(|device| device.device_key.as_str()).collect();
    let expected: Vec<&str> = after.devices.iter().map(|device| device.device_key.as_str()).collect();
    assert_eq!(keys, expected);
    let logged_in = async {
        // Data may flow while the new one logs in.
        while gateway.counters.sub_devices_online.get() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), logged_in).await.expect("all three are online");
    {
        let seen = broker.seen.lock().unwrap();
        assert_eq!(seen.connects.len(), 1, "no reconnect");
        let logins = seen.topics("combine/login/batch");
        let second: Vec<&str> = logins[1]["params"]["subDevices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|d| d["deviceKey"].as_str().unwrap())
            .collect();
        assert_eq!((logins.len(), second), (2, vec![expected[0]]), "the new one alone logs in");
        assert!(seen.topics("combine/logout").is_empty());
    }
    gateway.stop().await;
}
