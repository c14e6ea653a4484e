//! The gateway's link to the EnOS Cloud over MQTT 3.1.1, or to a plain broker that takes the same messages.

mod activation;
mod answers;
mod desk;
mod downstream;
mod first_login;
mod in_flight;
mod notices;
mod properties;
/// For simulations; everybody else runs the link.
#[doc(hidden)]
pub mod publisher;
mod refusal;
mod reply;
mod requests;
mod roster;
mod run;
mod session;
mod sign;
mod status;
mod sub_devices;
mod templates;
mod topics;
mod trial;
mod updates;
pub mod upstream;

pub use desk::AskDesk;
pub use downstream::DOOR;
pub use notices::NoticeQueue;
pub use roster::{CloudUpdate, RosterDesk};
pub use run::{CloudExtras, CloudPorts, CloudSite, run};
pub use status::{Login, Snapshot, State, Status, SubDevice};
pub use trial::{Trial, log_in_once};
pub use updates::UpdateDesk;
