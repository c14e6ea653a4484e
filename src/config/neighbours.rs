//! PURE. What two destinations on one broker must not do to each other.

use super::destinations::DestinationConfig;
use crate::diagnostic::{Diagnostic, Place};

/// Faults of `one` beside those read before it. Brokers are told apart by host and port as they are written.
pub(super) fn faults(others: &[DestinationConfig], one: &DestinationConfig, place: &Place) -> Vec<Diagnostic> {
    let beside = others.iter().filter(|other| (&other.host, other.port) == (&one.host, one.port));
    let mut faults = Vec::new();
    for other in beside {
        if other.client_id == one.client_id {
            // MQTT 3.1.1, 3.1.4-2: the broker closes the connection of the one that came first.
            let problem =
                format!("destinations \"{}\" and \"{}\" have one client_id at one broker", other.name, one.name);
            faults.push(
                Diagnostic::error(place.clone(), problem)
                    .help("each would end the other's connection; give each a client_id of its own"),
            );
        }
        for (reader, writer) in [(one, other), (other, one)] {
            if let Some(filter) = reads_of(reader, writer) {
                let (reader, writer) = (&reader.name, &writer.name);
                let problem = format!("filter \"{filter}\" of \"{reader}\" covers topics \"{writer}\" publishes to");
                faults.push(
                    Diagnostic::error(place.clone(), problem)
                        .help("the gateway would read its own messages for ever; receive on topics of their own"),
                );
            }
        }
    }
    faults
}

fn reads_of(reader: &DestinationConfig, writer: &DestinationConfig) -> Option<String> {
    let shape = writer.topic.shape();
    let covering = reader.subscribe.iter().find(|one| one.filter.may_cover(&shape));
    covering.map(|one| one.filter.as_str().to_owned())
}
