//! MQTT 3.1.1 for whoever delivers readings: one connection, its TLS, when to try again, how much may be on its way.

pub mod connection;
pub mod payload;
pub mod reconnect;
mod taken;
pub mod throttle;
pub mod tls;
pub mod window;
