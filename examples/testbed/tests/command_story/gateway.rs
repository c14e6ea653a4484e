//! A gateway as a process of its own, that can be killed, and whose disk can be filled.

use enos_edge::doors::local::Visitor;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The child's configuration; without it the child test does nothing.
pub const CONFIG: &str = "COMMAND_STORY_CONFIG";

/// What all stories use: registers 100 to 103 of unit 1, written and, but for 103, read back.
pub fn write_site(folder: &Path, meter: u16, more: &str) {
    let site = folder.join("site");
    let put = |name: &str, text: &str| {
        let path = site.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put("package.yaml", "format: 1\nname: story\nversion: 1.0.0\n");
    put(
        "assets.yaml",
        "devices:\n  - { name: Meter 1, product_key: pk, device_key: m1, device_secret: s1, template: meter, connection: line, address: 1 }\n",
    );
    put(
        "models/meter.yaml",
        "models:\n  - id: Meter\n    measurepoints:\n\
         \x20     - { id: setpoint, data_type: int, min: 0, max: 60000 }\n\
         \x20     - { id: running, data_type: int, values: [ 0, 1 ] }\n\
         \x20     - { id: limit, data_type: double, min: 0, max: 100, step: 0.1 }\n\
         \x20     - { id: blind, data_type: int }\n\
         \x20     - { id: fixed, data_type: int, writable: false }\n\
         \x20   services:\n      - { id: start, input: [ { id: level, data_type: int, max: 10 } ], output: [ level ] }\n\
         \x20   interlocks:\n\
         \x20     - points: [ limit ]\n        only_when: [ { measurepoint: running, operator: \"==\", value: 1 } ]\n\
         \x20       message: start it first\n",
    );
    put(
        "connections/line.yaml",
        &format!(
            "name: line\nprotocol: modbus-tcp\nprotocol.sys:\n  host: 127.0.0.1\n  port: {meter}\n  address_base: 0\n\
             \x20 scan_period_ms: 200\n  timeout_ms: 1000\n"
        ),
    );
    put(
        "templates/meter/template.yaml",
        "model: Meter\nservices:\n  - id: start\n    steps:\n      - { set: running, value: 1 }\n      - { set: setpoint, input: level }\n    output: { level: setpoint }\n",
    );
    put(
        "templates/meter/point.csv",
        "name,number,value type,point type,coefficient,base value,alias\nSetpoint,100,ushort,ai,1,0,\nRunning,101,ushort,ai,1,0,\n\
         Limit,102,ushort,ai,0.1,0,\nSetpoint out,100,ushort,ao,1,0,\nRunning out,101,ushort,ao,1,0,\nLimit out,102,ushort,ao,0.1,0,\n\
         Blind out,103,ushort,ao,1,0,\nFixed out,104,ushort,ao,1,0,\n",
    );
    put(
        "templates/meter/mapping.yaml",
        "mapping:\n  - { point: setpoint, mapping: ai.100, control: ao.100 }\n  - { point: running, mapping: ai.101, control: ao.101 }\n\
         \x20 - { point: limit, mapping: ai.102, control: ao.102 }\n  - { point: blind, control: ao.103 }\n  - { point: fixed, control: ao.104 }\n",
    );
    std::fs::write(folder.join("edge.yaml"), format!("state_dir: state\npackage: site\n{more}")).unwrap();
}

pub struct Gateway {
    child: Child,
    socket: PathBuf,
}

impl Gateway {
    /// Starts it and waits until it answers.
    pub fn start(folder: &Path) -> Gateway {
        // A full disk is an error then, as it is on a real one, and no signal.
        let child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" --exact child --nocapture"])
            .arg(std::env::current_exe().unwrap())
            .env(CONFIG, folder.join("edge.yaml"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let gateway = Gateway { child, socket: folder.join("state/control.sock") };
        until("the gateway answers", || Visitor::connect(&gateway.socket).is_ok());
        until("the meter answers", || {
            let status = gateway.ask("status", &json!({"listings": false}));
            status["south"]["connections"][0]["devices"][0]["state"] == "online"
        });
        gateway
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn visitor(&self) -> Visitor {
        Visitor::connect(&self.socket).unwrap()
    }

    pub fn ask(&self, operation: &str, arguments: &Value) -> Value {
        self.visitor().ask(operation, arguments).unwrap()
    }

    /// Writes one point; code and message.
    pub fn write(&self, id: &str, point: &str, value: Value) -> (i64, String) {
        told(&self.ask("write", &json!({"device": "Meter 1", "points": { point: value }, "id": id})))
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn told(outcome: &Value) -> (i64, String) {
    (outcome["code"].as_i64().unwrap(), outcome["message"].as_str().unwrap().to_owned())
}

pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !happened() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
