//! An engine for trials: the whole gateway, and the launcher too. What a test appended to a copy of the program says
//! which version it is and how it misbehaves, so that one build is as many engines as a story needs.
//!
//! The last line of the file: `\nENGINE version=0.3.0 behave=crash after_ms=5000\n`.

use std::io::{Read, Seek, SeekFrom, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// More than the line ever has.
const TAIL: i64 = 256;
/// Names the file that every sudden end of this process is noted in, milliseconds since 1970 in a line.
const DEATHS: &str = "ENGINE_TEST_DEATHS";

#[derive(Clone, Debug, Default)]
struct Part {
    version: Option<String>,
    behave: String,
    after: Duration,
}

fn main() -> ExitCode {
    let part = part().unwrap_or_default();
    let version: &'static str = Box::leak(part.version.clone().unwrap_or_else(|| "0.1.0".to_owned()).into_boxed_str());
    let runs = std::env::args().nth(1).is_some_and(|word| word == "run");
    if runs && part.behave == "lie" {
        enos_edge::version::set("0.1.1");
    } else {
        enos_edge::version::set(version);
    }
    if runs {
        misbehave(&part);
    }
    enos_edge::cli::main_from(std::env::args_os())
}

/// Comes back when the engine is to run, with or without something that waits beside it.
fn misbehave(part: &Part) {
    let after = part.after;
    match part.behave.as_str() {
        "crash" => die(),
        "crash-later" => drop(std::thread::spawn(move || {
            std::thread::sleep(after);
            die();
        })),
        // Well as long as it is on trial, when what it says goes to the launcher.
        "crash-confirmed" if !is_on_trial() => die(),
        "hang" => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        "mute" => {
            say("READY=1");
            loop {
                std::thread::sleep(Duration::from_millis(500));
                say("WATCHDOG=1");
            }
        }
        "deaf" => {
            say("READY=1");
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
        "fill" => drop(std::thread::spawn(move || {
            std::thread::sleep(after);
            fill();
        })),
        "next-schema" => enos_edge::outbox::be_the_next(true),
        _ => {}
    }
}

fn is_on_trial() -> bool {
    std::env::var("NOTIFY_SOCKET").is_ok_and(|socket| socket.contains("/engines/"))
}

/// As a panic of the whole process would, and says when.
fn die() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    if let Some(path) = std::env::var_os(DEATHS)
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path)
    {
        // A test that misses the line says so.
        let _ = writeln!(file, "{now}");
    }
    std::process::abort();
}

fn fill() {
    let Ok(mut file) = std::fs::File::create(std::env::temp_dir().join("rubbish")) else { return };
    let rubbish = vec![7u8; 256 << 10];
    // Until the disk takes no more, or the launcher has had enough.
    while file.write_all(&rubbish).is_ok() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn say(word: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    // Nobody may listen.
    let _ = std::os::unix::net::UnixDatagram::unbound().and_then(|socket| socket.send_to(word.as_bytes(), path));
}

fn part() -> Option<Part> {
    let mut file = std::fs::File::open("/proc/self/exe").ok()?;
    file.seek(SeekFrom::End(-TAIL)).ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail).into_owned();
    let line = tail.trim_end().rsplit('\n').next()?.strip_prefix("ENGINE ")?;
    let word = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    Some(Part {
        version: word("version").map(str::to_owned),
        behave: word("behave").unwrap_or_default().to_owned(),
        after: Duration::from_millis(word("after_ms").and_then(|ms| ms.parse().ok()).unwrap_or(0)),
    })
}
