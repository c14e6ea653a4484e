//! edge.yaml as people write it, right and wrong.

use super::*;
use std::time::Duration;

fn read(text: &str) -> Result<Config, String> {
    parse(&"edge.yaml".into(), Path::new("/etc/enos-edge"), text, Overrides::default())
        .map_err(|faults| crate::diagnostic::joined(&faults))
}

#[test]
fn three_lines_are_a_configuration() {
    let config = read("state_dir: /var/lib/enos-edge\npackage: site\n").unwrap();
    assert_eq!(config.package.unwrap(), Path::new("/etc/enos-edge/site"));
    assert_eq!(config.control_socket, Path::new("/run/enos-edge/control.sock"));
    let elsewhere = read("state_dir: /data\n").unwrap();
    assert_eq!(elsewhere.control_socket, Path::new("/data/control.sock"));
    assert!(config.cloud.is_none());
    assert_eq!(config.outbox.bound, Duration::from_secs(1));
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let faults = read(
        "stat_dir: x\ncloud:\n  url: http://a\n  product_key: p\n  in_flight: many\noutbox: { durability: strickt }\n",
    )
    .unwrap_err();
    for expected in [
        "edge.yaml:1:1: key \"stat_dir\"",
        "did you mean state_dir?",
        "edge.yaml:3:8: url: scheme \"http\"",
        "edge.yaml:5:14: in_flight: \"many\"",
        "cloud has no device_key",
        "cloud has no device_secret",
        "did you mean strict?",
    ] {
        assert!(faults.contains(expected), "{expected} is missing in\n{faults}");
    }
}

#[test]
fn a_plain_broker_needs_no_secret_and_logs_nobody_in() {
    let text =
        "state_dir: s\ncloud: { url: \"tcp://[::1]:1883\", product_key: p, device_key: d, acknowledge: puback }\n";
    let cloud = read(text).unwrap().cloud.unwrap();
    assert_eq!((cloud.host.as_str(), cloud.port, cloud.tls.is_some()), ("::1", 1883, false));
    assert!(!cloud.sub_device_login);
}

#[test]
fn late_data_has_a_section_of_its_own_and_its_old_key_still_works() {
    use crate::config::{LateDataConfig, Order};
    use crate::model::LatePolicy;
    let cloud = |more: &str| {
        read(&format!(
            "state_dir: s\ncloud:\n  url: tcp://c:1\n  product_key: p\n  device_key: d\n  device_secret: s\n{more}"
        ))
        .map(|config| config.cloud.unwrap())
    };
    assert_eq!(cloud("").unwrap().late_data, LateDataConfig::default());
    let late = cloud("  late_data: { order: fifo, threshold_s: 7200, policy: remove }\n").unwrap().late_data;
    let expected =
        LateDataConfig { order: Order::Fifo, threshold: Duration::from_secs(7200), policy: LatePolicy::Remove };
    assert_eq!(late, expected);
    assert_eq!(cloud("  late_after_s: 5\n").unwrap().late_data.threshold, Duration::from_secs(5));
    let faults = cloud("  late_after_s: 5\n  late_data: { threshold_s: 5, order: fivo }\n").unwrap_err();
    assert!(faults.contains("edge.yaml:7:17: late_after_s and late_data.threshold_s"), "{faults}");
    assert!(faults.contains("did you mean fifo?"), "{faults}");
}

#[test]
fn enos_is_sent_no_more_than_it_takes_and_a_plain_broker_what_it_takes() {
    let cloud = |more: &str| {
        let text = format!(
            "state_dir: s\ncloud: {{ url: \"tcp://c:1\", product_key: p, device_key: d, device_secret: s{more} }}\n"
        );
        read(&text).unwrap().cloud.unwrap()
    };
    assert_eq!(cloud("").upstream_bytes_per_second, Some(1_000_000));
    assert_eq!(cloud(", acknowledge: puback").upstream_bytes_per_second, None);
    assert_eq!(cloud(", upstream_kb_per_s: 0").upstream_bytes_per_second, None);
    assert_eq!(cloud(", upstream_kb_per_s: 50").upstream_bytes_per_second, Some(50_000));
    assert_eq!(cloud(", backlog_kb_per_s: 50").backlog_bytes_per_second, Some(50_000));
}

#[test]
fn the_door_is_found_without_the_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edge.yaml");
    let cloud = "cloud: { url: tcp://a, product_key: p, device_key: d, device_secret_credential: x }";
    std::fs::write(&file, format!("state_dir: s\n{cloud}\n")).unwrap();
    assert_eq!(control_socket(&file).unwrap(), folder.path().join("s/control.sock"));
    for text in ["log: { level: info }\n", "# nothing\n"] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(control_socket(&file).unwrap(), Path::new("/run/enos-edge/control.sock"));
    }
    std::fs::write(&file, "state_dir: [ a ]\n").unwrap();
    assert!(control_socket(&file).unwrap_err()[0].problem.contains("state_dir"));
    assert!(control_socket(&folder.path().join("none")).is_err());
}

#[test]
fn keys_that_break_topics_are_refused_for_enos() {
    let faults =
        read("state_dir: s\ncloud: { url: tcp://a, product_key: 产品/1, device_key: \"gw 1\", device_secret: x }\n")
            .unwrap_err();
    assert!(faults.contains("product_key \"产品/1\" holds '/'"), "{faults}");
    assert!(faults.contains("device_key \"gw 1\" holds ' '"), "{faults}");
    read("state_dir: s\ncloud: { url: tcp://a, product_key: 产品_1, device_key: 网关-1.a, product_secret: x }\n")
        .unwrap();
}

#[test]
fn the_integration_takes_logic_assets_and_needs_rest() {
    let rest = "state_dir: s\nrest: { url: h, access_key: a, secret_key: s, org_id: o }\n";
    let one = read(&format!("{rest}integration: {{ quota_mb: 5, filter: {{ models: M, points: [a*, b] }} }}\n"));
    let one = one.unwrap().integration.unwrap();
    assert_eq!((one.quota_bytes, one.max_age, one.in_flight), (Some(5 << 20), None, 4));
    assert_eq!(one.selection.kind, Some(crate::model::AssetKind::Logic));
    assert_eq!((one.selection.models.len(), one.selection.points.len()), (1, 2));
    let faults = read("state_dir: s\nintegration: { in_flight: 0, filter: { kind: device, points: [], name: x } }\n");
    let faults = faults.unwrap_err();
    for expected in ["has no rest:", "in_flight: \"0\"", "takes logic assets only", "empty list", "key \"name\""] {
        assert!(faults.contains(expected), "{expected} is missing in\n{faults}");
    }
}

#[test]
fn trust_needs_no_section_and_says_what_it_says() {
    use crate::config::{PackageTrustConfig, RequireSignature};
    assert_eq!(read("state_dir: s\n").unwrap().package_trust, PackageTrustConfig::default());
    let text = "state_dir: s\npackage_trust: { keys: [ plant.pub ], require: always, allow_downgrade: yes }\n";
    let trust = read(text).unwrap().package_trust;
    assert_eq!(trust.keys, [Path::new("/etc/enos-edge/plant.pub")]);
    assert_eq!((trust.require, trust.allow_downgrade), (RequireSignature::Always, true));
    let faults = read("state_dir: s\npackage_trust: { require: alway }\n").unwrap_err();
    assert!(faults.contains("did you mean always?"), "{faults}");
}

#[test]
fn every_key_is_documented() {
    let page = include_str!("../../../docs/reference/edge-yaml.md");
    for key in all_keys() {
        assert!(page.contains(&format!("{key}:")), "docs/reference/edge-yaml.md does not show {key}");
    }
}

#[test]
fn the_shipped_file_is_comments_only_and_names_every_key() {
    let file = include_str!("../../../packaging/deb/edge.yaml");
    assert!(file.lines().all(|line| line.is_empty() || line.starts_with('#')), "a setting is not commented");
    for key in all_keys() {
        assert!(file.contains(&format!(" {key}:")), "packaging/deb/edge.yaml does not name {key}");
    }
    let config = read(file).unwrap();
    assert!(config.cloud.is_none() && config.push.is_none() && config.package.is_none());
    assert!(config.destinations.is_empty() && config.fetch.is_empty() && config.warnings.is_empty());
    assert_eq!(config.state_dir, Path::new("/var/lib/enos-edge"));
    assert_eq!(config.control_socket, Path::new("/run/enos-edge/control.sock"));
}

/// A line can go without a change, unless it says `default:` itself, is needed, or opens a section.
#[test]
fn what_the_shipped_file_gives_as_a_default_is_the_default() {
    let file = include_str!("../../../packaging/deb/edge.yaml");
    let bare = |line: &'static str| line.strip_prefix("# ").unwrap_or_default();
    let lines: Vec<&str> = file.lines().map(bare).collect();
    let configuration = |lines: &[&str]| {
        let text = lines.join("\n");
        // The files of secrets are not on the machine that runs the test.
        let text = text.replace("device_secret_file:", "device_secret:").replace("secret_key_file:", "secret_key:");
        let text = text.replace("key_file: /etc/enos-edge/door-secret", "key: longer-than-a-guess");
        read(&text.replace("password_file:", "password:")).map(|config| format!("{config:#?}"))
    };
    let whole = configuration(&lines).unwrap();
    let (mut needed, mut different, mut defaults) = (Vec::new(), Vec::new(), 0);
    for (at, line) in lines.iter().enumerate() {
        let Some((setting, told)) = line.split_once("##").or(Some((line, ""))).filter(|(s, _)| s.contains(": ")) else {
            continue;
        };
        if told.contains("default:") || told.contains("default of") || setting.trim_end().ends_with(':') {
            continue;
        }
        // A list entry keeps its dash.
        if line.trim_start().starts_with("- ") {
            continue;
        }
        let mut without = lines.clone();
        without[at] = "";
        match configuration(&without) {
            Ok(without) if without == whole => {}
            Ok(_) => different.push(setting.trim()),
            Err(_) => needed.push(setting.split(':').next().unwrap_or_default().trim()),
        }
        defaults += 1;
    }
    assert!(defaults > 80, "only {defaults} settings were looked at");
    assert!(different.is_empty(), "not the default, and do not say `default:`: {different:#?}");
    let expected = "url product_key device_key device_secret_file url access_key secret_key_file org_id url topic \
                    device point url url listen cert_file key_file client_ca_file from to";
    assert_eq!(needed.join(" "), expected);
}

#[test]
fn the_page_s_example_is_a_configuration() {
    let page = include_str!("../../../docs/reference/edge-yaml.md");
    let example = page.split("```yaml").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let faults = read(example).map(|_| ()).unwrap_err();
    // The files of secrets are not on the machine that runs the test; nothing else may be wrong.
    let told: Vec<&str> = faults.lines().filter(|line| line.starts_with("edge.yaml:")).collect();
    assert!(told.iter().all(|line| line.contains("secret")), "{faults}");
    assert!(faults.contains("device_secret_file") && faults.contains("secret_key_file"), "{faults}");
}
