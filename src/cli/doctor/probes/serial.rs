//! The serial ports of the package: there, open to the daemon, and nobody else's.

use super::configured;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::Ground;
use crate::cli::doctor::holders::{self, Holder};
use crate::cli::doctor::people::{self, Wish};
use crate::cli::doctor::site;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

pub(in crate::cli::doctor) fn look(ground: &Ground) -> Vec<Finding> {
    let config = match configured(ground, "serial ports") {
        Ok(config) => config,
        Err(unseen) => return unseen,
    };
    let Some(site) = site::current(config) else {
        return vec![Finding::unseen("serial ports", "no package can be loaded")];
    };
    let mut ports: BTreeMap<PathBuf, Vec<&str>> = BTreeMap::new();
    for connection in &site.connections {
        for resource in connection.plan.resources() {
            if let Some(port) = resource.name.strip_prefix("serial:") {
                ports.entry(PathBuf::from(port)).or_default().push(&connection.name);
            }
        }
    }
    if ports.is_empty() {
        return vec![Finding::ok("the package uses none")];
    }
    ports.iter().map(|(port, who)| one(ground, port).at(format!("{}, {}", port.display(), who.join(", ")))).collect()
}

fn one(ground: &Ground, port: &Path) -> Finding {
    let found = match std::fs::metadata(port) {
        Ok(found) => found,
        Err(error) => {
            let there = existing(ground);
            return Finding::fault(format!("can not be used: {error}"))
                .help(format!("plug the adapter in, or name the right port in the package; there are: {there}"));
        }
    };
    if !found.file_type().is_char_device() {
        return Finding::fault("is no serial port")
            .help(format!("name one in the package; there are: {}", existing(ground)));
    }
    let others: Vec<String> = strangers(ground, port).iter().map(Holder::to_string).collect();
    if !others.is_empty() {
        return Finding::fault(format!("{} has it open too", others.join(" and "))).help(
            "stop it: for a login console `systemctl disable --now serial-getty@NAME`, for ModemManager `systemctl mask --now ModemManager`",
        );
    }
    let Some(daemon) = ground.daemon() else { return Finding::ok("is there") };
    if people::may_open(&ground.root, daemon, &found, Wish::ReadWrite) {
        return Finding::ok("is there, and the daemon may use it");
    }
    let (name, group) = (people::user_name(&ground.root, daemon), people::group_name(&ground.root, found.gid()));
    Finding::fault(format!("{name} may not use it (group {group}, mode {:o})", found.mode() & 0o777)).help(permission(
        port,
        &name,
        &group,
        found.mode(),
    ))
}

/// A group that may use it is joined; of root's nobody should be a member, and one without rights is no help.
fn permission(port: &Path, name: &str, group: &str, mode: u32) -> String {
    if mode & 0o060 == 0o060 && group != "root" {
        return format!(
            "usermod -a -G {group} {name}, then restart the gateway; the unit must allow the device too (DeviceAllow=)"
        );
    }
    let kernel = port.file_name().unwrap_or_default().to_string_lossy();
    format!(
        "chgrp dialout {0} && chmod 660 {0}, and usermod -a -G dialout {name}, then restart the gateway; for good by a rule of udev: \
         SUBSYSTEM==\"tty\", KERNEL==\"{kernel}\", GROUP=\"dialout\", MODE=\"0660\"",
        port.display()
    )
}

/// Processes other than the gateway.
fn strangers(ground: &Ground, port: &Path) -> Vec<Holder> {
    let all = holders::of_file(&ground.root, port);
    all.into_iter().filter(|holder| holder.name != "enos-edge").collect()
}

fn existing(ground: &Ground) -> String {
    let mut names: Vec<String> = Vec::new();
    for folder in ["dev/serial/by-id", "dev"] {
        let entries = std::fs::read_dir(ground.path(folder)).into_iter().flatten().map_while(Result::ok);
        let fits = |name: &str| {
            folder.ends_with("by-id")
                || ["ttyUSB", "ttyACM", "ttyAMA", "ttymxc", "ttyO", "ttyS", "ttyRS"]
                    .iter()
                    .any(|start| name.starts_with(start))
        };
        let found = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| fits(name));
        names.extend(found.map(|name| format!("/{folder}/{name}")));
    }
    names.sort();
    names.truncate(8);
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_use_a_port_is_never_told_to_join_root_or_a_group_that_may_not_either() {
        let told = |group: &str, mode| permission(Path::new("/dev/ttyS0"), "enos-edge", group, mode);
        assert!(told("dialout", 0o660).starts_with("usermod -a -G dialout enos-edge"));
        for (group, mode) in [("root", 0o600), ("root", 0o660), ("dialout", 0o600), ("dialout", 0o640)] {
            let told = told(group, mode);
            assert!(
                told.starts_with("chgrp dialout /dev/ttyS0 && chmod 660 /dev/ttyS0") && !told.contains("-G root"),
                "{told}"
            );
            assert!(told.contains("KERNEL==\"ttyS0\""), "{told}");
        }
    }
}
