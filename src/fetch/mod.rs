//! The ways in of resource packages: pulled over HTTP, FTP and SFTP or out of a folder, or pushed to the gateway. All end
//! in one hand-over ([`crate::model::Arrivals`]) of an archive that is whole on disk.

mod desk;
mod digest;
mod download;
mod folder;
mod ftp;
mod ftp_implicit;
mod guests;
#[cfg(test)]
mod hostile;
mod http;
mod http_rules;
mod incoming;
pub mod journal;
mod names;
mod once;
mod pace;
mod pull;
pub mod push;
mod reach;
mod sftp;
mod source;
mod status;
mod story;
mod tls;
mod upload;
mod wish;

pub use desk::Desk;
pub use download::{Download, Downloaded, chance, retry_after, tls_client};
pub use incoming::FOLDER;
pub use once::{Errand, once};
pub use source::{Fetching, start};
pub use wish::Wish;
