//! A digest of everything a running connection is made of. Equal digests: it may go on as it is under a new package.

use super::assets::Device;
use super::texts::Connection;
use crate::model::Template;
use ring::digest::{Context, SHA256};
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// Templates are digested once, however many devices share them.
#[derive(Default)]
pub struct Digests(HashMap<*const Template, String>);

struct Sum(Context);

impl fmt::Write for Sum {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

impl Sum {
    fn new() -> Sum {
        Sum(Context::new(&SHA256))
    }

    fn finish(self) -> String {
        let digest = self.0.finish();
        digest
            .as_ref()
            .iter()
            .flat_map(|b| [b >> 4, b & 15])
            .map(|n| char::from(b"0123456789abcdef"[usize::from(n)]))
            .collect()
    }
}

impl Digests {
    /// Of one connection with its devices in their order. Places in files do not count, nor do limits of commands.
    pub fn of<'t>(
        &mut self,
        connection: &Connection,
        protocol: &str,
        devices: impl Iterator<Item = (&'t Device, &'t Arc<Template>)>,
    ) -> String {
        let mut sum = Sum::new();
        let mut parameters: Vec<(&str, &str)> =
            connection.parameters.entries.iter().map(|(key, value)| (&*key.text, &*value.text)).collect();
        parameters.sort_unstable();
        let text = |text: &Option<driver::Text>| text.as_ref().map(|text| text.text.clone());
        // Writing into a digest does not fail.
        let _ = write!(sum, "{:?} {protocol:?} {parameters:?}", connection.name.text);
        for (device, template) in devices {
            let template = self.0.entry(Arc::as_ptr(template)).or_insert_with(|| of_template(template));
            let keys =
                [text(&device.product_key), text(&device.device_key), text(&device.asset_id), text(&device.address)];
            let _ = write!(sum, "{:?} {keys:?} {:?} {template}", device.name.text, device.offsets.offsets);
        }
        sum.finish()
    }
}

fn of_template(template: &Template) -> String {
    let mut sum = Sum::new();
    let Template { name: _, model, table, rules, controls, commands } = template;
    let transfer = commands.firmware.as_ref().map(|firmware| &firmware.transfer);
    // Writing into a digest does not fail.
    let _ = write!(sum, "{model:?} {table:?} {rules:?} {controls:?} {transfer:?}");
    sum.finish()
}
