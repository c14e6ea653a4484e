//! The tables of the store, and the steps that led to them.

use rusqlite::Connection;

/// "EdgO": marks the file as an outbox, for `file` and for us.
pub const APPLICATION_ID: i32 = 0x4564_674f;

/// Step `n` leads from version `n` to `n + 1`. Never change one that was released; add the next.
const MIGRATIONS: &[&str] = &[
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
     CREATE TABLE names (epoch INTEGER PRIMARY KEY, body BLOB NOT NULL);
     CREATE TABLE segment (
         first INTEGER PRIMARY KEY, last INTEGER NOT NULL, epoch INTEGER NOT NULL, readings INTEGER NOT NULL,
         oldest INTEGER NOT NULL, newest INTEGER NOT NULL, body BLOB NOT NULL);
     CREATE TABLE destination (name TEXT PRIMARY KEY, done TEXT NOT NULL) WITHOUT ROWID;
     CREATE TABLE gap (
         id INTEGER PRIMARY KEY, destination TEXT NOT NULL, reason TEXT NOT NULL, first INTEGER NOT NULL,
         last INTEGER NOT NULL, from_time INTEGER NOT NULL, to_time INTEGER NOT NULL, readings INTEGER NOT NULL);",
    // Values a destination refused. The key makes a refusal that is repeated after a crash the same row.
    "CREATE TABLE set_aside (
         id INTEGER PRIMARY KEY, destination TEXT NOT NULL, seq INTEGER NOT NULL, device TEXT NOT NULL,
         product_key TEXT NOT NULL, device_key TEXT NOT NULL, point TEXT NOT NULL, time INTEGER NOT NULL,
         value TEXT NOT NULL, quality INTEGER NOT NULL, code INTEGER NOT NULL, reason TEXT NOT NULL, at INTEGER NOT NULL,
         UNIQUE (destination, seq, device, point, time));",
    // Who needs what: a destination that does not want a segment, or has it, has no row for it. Without `needs` in
    // meta the rows are to be made from the segments.
    "ALTER TABLE destination ADD COLUMN id INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE destination ADD COLUMN selection TEXT NOT NULL DEFAULT '';
     CREATE TABLE need (
         destination INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, readings INTEGER NOT NULL,
         anyone INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (destination, first)) WITHOUT ROWID;",
    // Readings of one device that its destination takes when the device is in order again. The key makes a row that is
    // written again after a failed commit the same row.
    "CREATE TABLE held (
         id INTEGER PRIMARY KEY, destination TEXT NOT NULL, product_key TEXT NOT NULL, device_key TEXT NOT NULL,
         seq INTEGER NOT NULL, epoch INTEGER NOT NULL, readings INTEGER NOT NULL, oldest INTEGER NOT NULL,
         newest INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (destination, product_key, device_key, seq));
     CREATE INDEX held_by_age ON held (seq, id);",
];

/// The version this engine writes.
pub const VERSION: usize = MIGRATIONS.len();

/// Brings the file to [`VERSION`], one transaction a step.
///
/// # Errors
/// When a step fails; the file is then as it was before that step.
pub fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let version: usize = connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(version) {
        let tx = connection.transaction()?;
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "user_version", u32::try_from(step + 1).expect("few versions"))?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.commit()?;
    }
    Ok(())
}

/// The file as an engine of that version left it.
#[cfg(test)]
pub(super) fn migrate_to(connection: &mut Connection, version: usize) {
    for sql in &MIGRATIONS[..version] {
        connection.execute_batch(sql).unwrap();
    }
    connection.pragma_update(None, "user_version", u32::try_from(version).unwrap()).unwrap();
    connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
}
