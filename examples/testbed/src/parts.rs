//! All parts of a site on this machine: meters, a machine, the cloud and the package that describes them.
//!
//! Quickstart, benches and crash tests start here; the gateway is theirs to run.

use crate::cloud::{Cloud, Options};
use crate::machine::{Machine, MachineConfig, values};
use crate::meter::{FIRST_COUNTING, Faults, Meters, Pattern, Wire};
use crate::site::{Shape, Site, machine_site, meter_site};
use anyhow::Context as _;
use enos_edge::diagnostic::joined;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    pub name: String,
    /// Modbus TCP addresses, each a connection of the package.
    pub meters: usize,
    pub shape: Shape,
    /// Also an OPC UA machine that moves this often.
    pub machine: Option<Duration>,
    pub cloud: Options,
}

/// Everything but the gateway.
pub struct Parts {
    pub site: Site,
    pub meters: Vec<Meters>,
    pub machine: Option<Machine>,
    pub cloud: Arc<Cloud>,
    shape: Shape,
}

/// Variables of the machine that count its ticks: every fourth is a Double (see [`values::value`]).
const MACHINE_COUNTERS: usize = 8;
/// The machine's ticks in a value start again after a million.
const MACHINE_SPAN: u32 = 1_000_000;
/// Answers on their way reach the gateway within this.
const LAST_ANSWERS: Duration = Duration::from_millis(300);
/// Slave device busy (Modbus Application Protocol 1.1b3, clause 7): refused before a register is read.
const BUSY: u8 = 6;

impl Parts {
    /// Starts the devices and the cloud on free ports of this machine.
    ///
    /// # Errors
    /// When one of them cannot start.
    pub async fn start(plan: Plan) -> anyhow::Result<Parts> {
        let mut meters = Vec::with_capacity(plan.meters);
        for _ in 0..plan.meters {
            let units = 1..=plan.shape.units;
            meters.push(Meters::listen(Wire::Tcp, "127.0.0.1:0", units, Pattern::Reads).await.context("meter")?);
        }
        let addresses: Vec<_> = meters.iter().map(Meters::address).collect();
        let mut site = meter_site(&plan.name, &addresses, plan.shape);
        let machine = match plan.machine {
            Some(tick) => Some(start_machine(&mut site, tick).await?),
            None => None,
        };
        let cloud = Arc::new(Cloud::start(plan.cloud, site.registry()).await.context("cloud")?);
        for (device, point, span) in site.counting_points() {
            let known = cloud.ledger(|ledger| ledger.counts(&device, point, span));
            anyhow::ensure!(known, "{device} {point} is not in the ledger");
        }
        Ok(Parts { site, meters, machine, cloud, shape: plan.shape })
    }

    /// Writes the package into a folder.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_package(&self, folder: &Path) -> anyhow::Result<()> {
        write_package(&self.site, folder)
    }

    /// How large the meters are.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Values the meters gave out so far. Correct below 65536 readings of a register.
    #[must_use]
    pub fn polled(&self) -> u64 {
        let reads = |meters: &Meters| -> u64 {
            (1..=self.shape.units).map(|unit| u64::from(meters.reads(unit, FIRST_COUNTING))).sum()
        };
        let values = u64::from(self.shape.registers) + self.shape.displayed as u64;
        self.meters.iter().map(reads).sum::<u64>() * values
    }

    /// The devices give nothing out any more; what they gave out is final and told to the ledger.
    pub async fn silence(&mut self) {
        for meters in &self.meters {
            meters.set_all_faults(Faults { exception: Some(BUSY), ..Faults::default() });
        }
        if let Some(machine) = &mut self.machine {
            machine.kill();
        }
        tokio::time::sleep(LAST_ANSWERS).await;
        self.settle();
    }

    /// What each register gave out last, by its own count.
    fn settle(&self) {
        let devices = self.site.devices.iter().filter(|device| device.template == "meter");
        let units = self.meters.iter().flat_map(|meters| (1..=self.shape.units).map(move |unit| (meters, unit)));
        self.cloud.ledger(|ledger| {
            for (device, (meters, unit)) in devices.zip(units) {
                let name = format!("{}/{}", device.triple.product_key, device.triple.device_key);
                for number in 0..self.shape.registers {
                    let given = meters.reads(unit, FIRST_COUNTING + number);
                    ledger.settle(&name, &format!("r{number}"), u64::from(given));
                }
            }
        });
    }
}

/// Writes a site as a package into a folder.
///
/// # Errors
/// When the disk refuses.
pub fn write_package(site: &Site, folder: &Path) -> anyhow::Result<()> {
    for (name, text) in site.files() {
        let path = folder.join(name);
        let parent = path.parent().context("files lie in folders")?;
        std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    // Sealed, as a package that leaves the engineer's hands is.
    enos_edge::package::seal::seal(folder, &enos_edge::package::source::Limits::default())
        .map_err(|faults| anyhow::anyhow!("seal the package: {}", joined(&faults)))?;
    Ok(())
}

async fn start_machine(site: &mut Site, tick: Duration) -> anyhow::Result<Machine> {
    // Plain: making a certificate would keep people waiting for seconds.
    let config = MachineConfig { variables: MACHINE_COUNTERS * 4, tick, secure: false, ..MachineConfig::default() };
    let machine = Machine::start(config).await.context("machine")?;
    let nodes = (0..MACHINE_COUNTERS).map(|n| (format!("ticks_{n}"), values::node(4 * n), Some(MACHINE_SPAN)));
    *site = machine_site(site.clone(), &machine.endpoint(), nodes.collect());
    Ok(machine)
}
