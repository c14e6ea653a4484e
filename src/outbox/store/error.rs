//! What can go wrong with the file, told apart by what has to follow: no room, a failing disk, damage, somebody else.

use crate::outbox::file::is_filled;
use crate::outbox::schema;
use rusqlite::ErrorCode;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("no room")]
    Full(#[source] rusqlite::Error),
    #[error("disk failed")]
    Disk(#[source] rusqlite::Error),
    #[error("file is damaged: {0}")]
    Damaged(String),
    #[error(
        "written by a newer engine (format {found}, this engine writes {}); nothing was changed",
        schema::version()
    )]
    Newer { found: usize },
    #[error("in use by another process")]
    InUse,
    #[error("{0}")]
    File(#[from] std::io::Error),
    #[error("database")]
    Other(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(e: rusqlite::Error) -> StoreError {
        let extended = e.sqlite_error().map(|e| e.extended_code);
        match e.sqlite_error_code() {
            // A page that the disk can not read back: a worn block. What lies on the others is carried over.
            _ if extended == Some(rusqlite::ffi::SQLITE_IOERR_CORRUPTFS) => StoreError::Damaged(e.to_string()),
            Some(ErrorCode::DiskFull) => StoreError::Full(e),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(e.to_string()),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse,
            Some(ErrorCode::SystemIoFailure | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => StoreError::Disk(e),
            _ => StoreError::Other(e),
        }
    }
}

impl StoreError {
    /// The disk of this file has no room; anything else is another trouble.
    #[must_use]
    pub fn is_no_room(&self, path: &Path) -> bool {
        match self {
            StoreError::Full(_) => true,
            StoreError::File(error) => error.kind() == std::io::ErrorKind::StorageFull,
            // A log that can not be made has no word for why.
            StoreError::Disk(_) => is_filled(path),
            _ => false,
        }
    }
}
