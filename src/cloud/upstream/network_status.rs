//! PURE. `network/status/report`: how good the gateway's radio link is.

use super::{Message, Whose};
use crate::model::Timestamp;
use serde_json::json;

/// As the vendor's Java client has it.
#[derive(Clone, Debug, Default)]
pub struct NetworkStatus {
    /// `4G`, `wifi`, `ethernet` …
    pub network_type: String,
    pub rssi: Option<f64>,
    pub snr: Option<f64>,
    pub packet_loss_rate: Option<f64>,
    pub error: String,
}

#[must_use]
pub fn report(whose: Whose<'_>, status: &NetworkStatus, collected: Timestamp, now: Timestamp) -> Message {
    let params = json!({
        "reportTime": now.0, "collectTime": collected.0, "rssi": status.rssi, "snr": status.snr,
        "packetLossRate": status.packet_loss_rate, "networkType": status.network_type, "errorInfo": status.error,
    });
    Message::sys(whose, "network/status/report", params)
}

#[cfg(test)]
mod tests {
    use super::super::Body;
    use super::super::vectors::{GATEWAY, TIME};
    use super::*;

    #[test]
    fn the_report_names_what_is_known() {
        let status = NetworkStatus { network_type: "4G".to_owned(), rssi: Some(-71.0), ..NetworkStatus::default() };
        let message = report(GATEWAY, &status, Timestamp(TIME - 1), Timestamp(TIME));
        assert_eq!(message.topic, "/sys/gwPK01/gwDK01/network/status/report");
        let Body::Json { method, params } = message.body else { panic!("no json") };
        assert_eq!(method, "network.status.report");
        assert_eq!(
            (&params["rssi"], &params["snr"], &params["collectTime"]),
            (&json!(-71.0), &json!(null), &json!(TIME - 1))
        );
    }
}
