//! Making packages as a field engineer does, with the program itself: from nothing to a signed archive, the same one
//! whoever builds it and wherever; and what a terminal and a pipe see meanwhile.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_enos-edge");
const PROTOCOLS: [&str; 4] = ["modbus-tcp", "modbus-rtu", "opcua", "virtual"];

fn edge(home: &Path, words: &[&str]) -> Output {
    Command::new(BINARY).args(words).current_dir(home).stdin(Stdio::null()).output().unwrap()
}

/// What it says on standard output; nothing may be said on the other.
fn good(home: &Path, words: &[&str]) -> String {
    let done = edge(home, words);
    let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && complaint.is_empty(), "{words:?}: {:?} {complaint}", done.status);
    String::from_utf8(done.stdout).unwrap()
}

fn refused(home: &Path, words: &[&str]) -> String {
    let done = edge(home, words);
    assert!(!done.status.success(), "{words:?} is refused");
    String::from_utf8(done.stderr).unwrap()
}

#[test]
fn every_protocol_goes_from_new_to_a_signed_archive() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let keygen = good(home, &["package", "keygen", "-o", "plant.key"]);
    let id = keygen.split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(id.len(), 16, "{keygen}");
    assert_eq!(std::fs::metadata(home.join("plant.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(home.join("plant.key")).unwrap();
    assert!(refused(home, &["package", "keygen", "-o", "plant.key"]).contains("is there already"));
    assert_eq!(std::fs::read(home.join("plant.key")).unwrap(), before, "nothing is written over it");
    for protocol in PROTOCOLS {
        let archive = format!("{protocol}.tar.zst");
        good(home, &["package", "new", protocol, "--protocol", protocol]);
        assert!(good(home, &["check", protocol]).contains("sound"), "{protocol}");
        good(home, &["package", "build", protocol, "-o", &archive, "--key", "plant.key"]);
        let verified = good(home, &["package", "verify", &archive, "--key", "plant.key.pub"]);
        assert!(verified.contains(&format!("is signed with key {id}")), "{verified}");
        assert!(good(home, &["package", "diff", protocol, &archive]).contains("no"), "nothing differs");
        // Once more, with the archive in the place of the folder.
        assert!(good(home, &["check", &archive]).contains("sound"));
    }
    let wrong = refused(home, &["package", "sign", "opcua.tar.zst", "--key", "plant.key.pub"]);
    assert!(wrong.contains("is a public key"), "{wrong}");
    let wrong = refused(home, &["package", "verify", "opcua.tar.zst", "--key", "plant.key"]);
    assert!(wrong.contains("this is a private key"), "{wrong}");
}

#[test]
fn the_same_folder_gives_the_same_bytes_whoever_builds_it_when_and_where() {
    let home = tempfile::tempdir().unwrap();
    // Another user builds below it.
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let home = home.path();
    good(home, &["package", "new", "a", "--protocol", "modbus-tcp", "--name", "plant"]);
    // The same files, made in another order, at another time, with other modes.
    let mut files: Vec<_> = ["package.yaml", "assets.yaml", "models/model.yaml", "connections/line-1.yaml"].to_vec();
    files.extend(["templates/device/template.yaml", "templates/device/point.csv", "templates/device/mapping.yaml"]);
    for (at, name) in files.iter().rev().enumerate() {
        let path = home.join("b").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(home.join("a").join(name), &path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644 | (at as u32 % 2))).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000 + at as u64)).unwrap();
    }
    let root = rustix::process::getuid().is_root();
    for ending in ["tar.gz", "tar.zst", "zip"] {
        let mut all = Vec::new();
        let worlds = [
            ("a", "022", "C", "UTC"),
            ("b", "077", "tr_TR.UTF-8", "Asia/Kathmandu"),
            ("b", "000", "de_DE", "America/St_Johns"),
        ];
        for (at, (folder, umask, locale, zone)) in worlds.into_iter().enumerate() {
            let output = format!("{at}.{ending}");
            let mut command = Command::new("sh");
            command.args(["-c", "umask $1 && exec $0 package build $2 -o $3", BINARY, umask, folder, &output]);
            command
                .envs([("LC_ALL", locale), ("LANG", locale), ("TZ", zone)])
                .env("SOURCE_DATE_EPOCH", "1")
                .current_dir(home);
            if root && at == 2 && folder == "b" {
                command.uid(65_534);
            }
            let done = command.output().unwrap();
            // A user that may not run the program from its folder proves nothing, and is no failure of the build.
            if root && at == 2 && !done.status.success() && done.stdout.is_empty() && done.status.code() == Some(126) {
                continue;
            }
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            all.push(std::fs::read(home.join(output)).unwrap());
        }
        assert!(all.len() >= 2 && all.iter().all(|bytes| *bytes == all[0]), "{ending}");
    }
}

/// What a terminal of 100 columns on standard error sees.
fn on_a_terminal(home: &Path, words: &[&str]) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let side = std::fs::File::options().read(true).write(true).open(name).unwrap();
    let mut child = {
        // The command keeps a copy of the terminal until it is dropped; reading would never end.
        let mut command = Command::new(BINARY);
        command.args(words).current_dir(home).stdin(Stdio::null()).stdout(Stdio::null()).stderr(side).spawn().unwrap()
    };
    let mut seen = Vec::new();
    // Linux ends the other side of a terminal with EIO.
    let _ = std::fs::File::from(terminal).read_to_end(&mut seen);
    child.wait().unwrap();
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn long_work_draws_a_bar_on_a_terminal_and_nothing_into_a_pipe() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    good(home, &["package", "new", "big", "--protocol", "modbus-tcp"]);
    let mut table = std::fs::read_to_string(home.join("big/templates/device/point.csv")).unwrap();
    (0..200_000)
        .for_each(|at| table.push_str(&format!("P{at},{},ushort,ao,1,0,,\n", at % 60_000 + at / 60_000 * 100_000)));
    std::fs::write(home.join("big/templates/device/point.csv"), table).unwrap();
    let seen = on_a_terminal(home, &["package", "build", "big", "-o", "big.zip"]);
    assert!(seen.contains('\r') && seen.contains("\u{1b}[K") && !seen.contains('\n'), "one line, drawn anew: {seen:?}");
    assert!(["sealing", "packing", "comparing", "unpacking"].iter().any(|step| seen.contains(step)), "{seen:?}");
    assert!(seen.contains(" %") && seen.contains("[#") || seen.contains("[-"), "{seen:?}");
    assert!(seen.ends_with("\r\u{1b}[K"), "and is gone at the end: {seen:?}");
    assert_eq!(on_a_terminal(home, &["package", "build", "big", "-o", "big.zip", "--json"]), "", "a script asked");
    good(home, &["package", "build", "big", "-o", "again.zip"]);
}
