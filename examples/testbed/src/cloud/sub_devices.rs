//! Sub-devices of a gateway: topology, login and logout.

use super::registry::Triple;
use super::request::{Answer, Request};
use super::sign::{self, Signed};
use super::world::World;
use serde_json::{Value, json};

/// Why a sub-device was refused: a code of EnOS and words.
type Why = (i64, &'static str);

const MISSING: Why = (705, "sub-device does not exist");
const NOT_MINE: Why = (740, "not a sub-device of this gateway");
const BAD_SIGN: Why = (742, "sign check failed");
const DISABLED: Why = (723, "sub-device is disabled");
const NO_ACTIVATION: Why = (770, "dynamic activation is not allowed");
/// Not documented which code it is; 739 is the one that speaks of too many devices.
const TOO_MANY: Why = (739, "too many sub-devices online");

/// A text field of a JSON object; numbers are taken as their text.
pub(super) fn field(of: &Value, name: &str) -> String {
    match of.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// The sign method, however the client spells its name.
fn sign_method(of: &Value) -> String {
    let name = field(of, "signMethod");
    if name.is_empty() { field(of, "signmethod") } else { name }
}

/// `pk&dk`, as messages of EnOS name a device.
pub(super) fn named(of: &Value) -> String {
    format!("{}&{}", field(of, "productKey"), field(of, "deviceKey"))
}

impl World {
    fn find_json(&self, of: &Value) -> Option<u32> {
        self.find(&field(of, "productKey"), &field(of, "deviceKey"))
    }

    /// `combine/login`
    pub fn login(&mut self, request: &Request<'_>) -> Answer {
        let params = &request.params;
        if !params.is_object() {
            return Answer::refused(1220, "params is no object");
        }
        match self.login_one(request, params, params) {
            Ok(data) => Answer::ok(data),
            Err((code, why)) => Answer::refused(code, format!("{}: {why}", named(params))),
        }
    }

    /// `combine/login/batch`: the good ones are logged in whatever happens to the others.
    pub fn login_batch(&mut self, request: &Request<'_>) -> Answer {
        let Some(sub_devices) = request.params.get("subDevices").and_then(Value::as_array) else {
            let data = json!({"loginedSubDevices": [], "failedSubDevices": []});
            return Answer { code: 1220, data, message: "subDevices is no array".into() };
        };
        let (mut logged_in, mut failed, mut reasons, mut code) = (Vec::new(), Vec::new(), Vec::new(), 200);
        for sub_device in sub_devices {
            match self.login_one(request, &request.params, sub_device) {
                Ok(data) => logged_in.push(data),
                Err((why_code, why)) => {
                    code = if code == 200 { why_code } else { code };
                    reasons.push(format!("{}: {why}", named(sub_device)));
                    failed.push(json!({
                        "productKey": field(sub_device, "productKey"), "deviceKey": field(sub_device, "deviceKey"),
                    }));
                }
            }
        }
        let data = json!({"loginedSubDevices": logged_in, "failedSubDevices": failed});
        Answer { code, data, message: reasons.join("; ") }
    }

    /// `shared` holds client id, timestamp and sign method, `own` the rest; they are one object in a single login.
    fn login_one(&mut self, request: &Request<'_>, shared: &Value, own: &Value) -> Result<Value, Why> {
        let device = match self.find_json(own) {
            Some(device) => device,
            None if self.registry.accept_all => {
                let triple = Triple::new(&field(own, "productKey"), &field(own, "deviceKey"), "");
                self.add_device(triple, false, Some(request.me))
            }
            None => return Err(MISSING),
        };
        let known = self.registry.get(device);
        if known.gateway != Some(request.me) {
            return Err(NOT_MINE);
        }
        if !known.enabled {
            return Err(DISABLED);
        }
        let activating = field(own, "secureMode") == "3";
        let product = self.registry.product_of(device);
        let secret = if activating { product.secret.clone() } else { Some(known.triple.secret.clone()) };
        if activating && !product.dynamic_activation {
            return Err(NO_ACTIVATION);
        }
        if !matches!(field(own, "secureMode").as_str(), "" | "2" | "3")
            || !self.sign_is_good(device, &secret.unwrap_or_default(), shared, own)
        {
            return Err(BAD_SIGN);
        }
        if let Some(code) = self.knobs.refused_device(&field(own, "productKey"), &field(own, "deviceKey")) {
            return Err((code, "refused"));
        }
        let online = self.links.get(&request.link).map_or(0, |link| link.online);
        let again = self.online.get(&device) == Some(&request.link);
        if !again && online >= self.knobs.online_limit {
            return Err(TOO_MANY);
        }
        self.set_online(device, request.link);
        self.stats.logins += 1;
        self.pump(device);
        let known = &mut self.registry.devices[device as usize];
        let mut data = json!({
            "assetId": known.asset_id, "productKey": known.triple.product_key, "deviceKey": known.triple.device_key,
        });
        if activating {
            known.activated = true;
            data["deviceSecret"] = known.triple.secret.as_str().into();
        }
        Ok(data)
    }

    /// Only the four fields are signed; `cleanSession` is not.
    fn sign_is_good(&self, device: u32, secret: &str, shared: &Value, own: &Value) -> bool {
        let triple = &self.registry.get(device).triple;
        if self.registry.accept_all && triple.secret.is_empty() {
            return true;
        }
        let (client_id, timestamp) = (field(shared, "clientId"), field(shared, "timestamp"));
        let fields = Signed {
            client_id: &client_id,
            device_key: &triple.device_key,
            product_key: &triple.product_key,
            timestamp: &timestamp,
        };
        sign::verify(&sign_method(shared), fields, secret, &field(own, "sign"))
    }

    /// `combine/logout`
    pub fn logout(&mut self, request: &Request<'_>) -> Answer {
        let params = &request.params;
        let Some(device) = self.find_json(params) else { return Answer::refused(MISSING.0, MISSING.1) };
        if self.online.get(&device) != Some(&request.link) {
            return Answer::refused(NOT_MINE.0, format!("{} is not logged in by this gateway", named(params)));
        }
        self.set_offline(device);
        Answer::ok(json!({"productKey": field(params, "productKey"), "deviceKey": field(params, "deviceKey")}))
    }

    /// `thing/topo/add`: signed with the sub-device's secret.
    pub fn topo_add(&mut self, request: &Request<'_>) -> Answer {
        self.each_sub_device(request, 1255, |world, entry| {
            let device = world.find_json(entry).ok_or("sub-device does not exist")?;
            let known = world.registry.get(device);
            if known.is_gateway {
                return Err("a gateway cannot be a sub-device");
            }
            if known.gateway.is_some_and(|gateway| gateway != request.me) {
                return Err("already under another gateway");
            }
            if !world.sign_is_good(device, &known.triple.secret, entry, entry) {
                return Err(BAD_SIGN.1);
            }
            if world.registry.get(request.me).children.len() >= world.knobs.topology_limit {
                return Err("too many sub-devices");
            }
            world.registry.set_gateway(device, Some(request.me));
            Ok(())
        })
    }

    /// `thing/topo/delete`: not while the sub-device is online.
    pub fn topo_delete(&mut self, request: &Request<'_>) -> Answer {
        self.each_sub_device(request, 1256, |world, entry| {
            let device = world.find_json(entry).ok_or("sub-device does not exist")?;
            if world.registry.get(device).gateway != Some(request.me) {
                return Err("not a child of this gateway");
            }
            if world.online.contains_key(&device) {
                return Err("sub-device is online");
            }
            world.registry.set_gateway(device, None);
            Ok(())
        })
    }

    fn each_sub_device(
        &mut self,
        request: &Request<'_>,
        code: i64,
        mut change: impl FnMut(&mut World, &Value) -> Result<(), &'static str>,
    ) -> Answer {
        if !self.registry.get(request.me).is_gateway {
            return Answer::refused(code, "target is no gateway");
        }
        let Some(entries) = request.params.as_array() else { return Answer::refused(code, "params is no array") };
        let mut failed = Vec::new();
        for entry in entries {
            if let Err(why) = change(self, entry) {
                failed.push(format!("{}: {why}", named(entry)));
            }
        }
        if failed.is_empty() { Answer::ok(json!({})) } else { Answer::refused(code, failed.join("; ")) }
    }

    /// `thing/topo/get`
    pub fn topo_get(&mut self, request: &Request<'_>) -> Answer {
        if !self.registry.get(request.me).is_gateway {
            return Answer::refused(1200, "caller is no gateway");
        }
        let children = &self.registry.get(request.me).children;
        let list = children.iter().map(|child| self.registry.get(*child)).map(|device| {
            json!({
                "productKey": device.triple.product_key, "deviceKey": device.triple.device_key,
                "assetId": device.asset_id,
            })
        });
        Answer::ok(list.collect())
    }
}
