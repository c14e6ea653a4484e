//! The tables of the store, and the steps that led to them.
//!
//! An engine on trial opens the file before it has proven itself, and the one before it must be able to go on with it. So
//! a step only adds: tables, indexes, and columns with a default. What an older engine writes meanwhile lacks the new
//! columns, and a new engine must read that. The file says which schema the oldest engine must know that may open it
//! (`oldest_reader` in meta); an engine older than that refuses, and leaves the file as it is. A step that takes something
//! away or gives old bytes a new meaning comes a version after the one that stopped needing it, and raises that number.

use super::rows;
use rusqlite::Connection;
use std::sync::atomic::{AtomicBool, Ordering};

/// "EdgO": marks the file as an outbox, for `file` and for us.
pub const APPLICATION_ID: i32 = 0x4564_674f;

/// Key in meta: the schema that an engine must know at least.
const OLDEST_READER: &str = "oldest_reader";

/// The schema that this engine's file needs its readers to know. The first ones were written before engines came over
/// the air: an engine reads its own and older ones.
const NEEDS: usize = 4;

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

/// The version this engine knows.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// What a next schema may look like, for tests of going there and back: it only adds.
const NEXT: &str = "ALTER TABLE segment ADD COLUMN lane INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE need ADD COLUMN urgent INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE destination ADD COLUMN region TEXT;
     ALTER TABLE gap ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE held ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
     CREATE TABLE lane (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
     CREATE INDEX segment_by_lane ON segment (lane, first);
     UPDATE segment SET lane = first % 3;";

static AS_NEXT: AtomicBool = AtomicBool::new(false);

/// From now on this process is an engine that knows one schema more. For tests.
#[doc(hidden)]
pub fn be_the_next(next: bool) {
    AS_NEXT.store(next, Ordering::SeqCst);
}

/// As a step would that an engine before it can not live with. For tests.
#[doc(hidden)]
pub fn need_the_next(connection: &mut Connection) -> rusqlite::Result<()> {
    let tx = connection.transaction()?;
    rows::put_meta(&tx, OLDEST_READER, VERSION as u64 + 1)?;
    tx.commit()
}

/// The version this engine writes.
#[must_use]
pub fn version() -> usize {
    VERSION + usize::from(AS_NEXT.load(Ordering::SeqCst))
}

/// Whether this engine may open a file of that version.
///
/// # Errors
/// When the file can not be asked.
pub fn may_open(connection: &Connection, found: usize) -> rusqlite::Result<bool> {
    if found <= version() {
        return Ok(true);
    }
    let key = "SELECT value FROM meta WHERE key = ?1";
    // Whoever says nothing of its readers wants them to know everything.
    let needs = connection.query_row(key, [OLDEST_READER], |row| row.get::<_, i64>(0)).ok();
    Ok(needs.and_then(|needs| usize::try_from(needs).ok()).is_some_and(|needs| needs <= version()))
}

/// Brings the file to [`version`], one transaction a step. A newer file stays as it is.
///
/// # Errors
/// When a step fails; the file is then as it was before that step.
pub fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let found: usize = connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
    let steps = MIGRATIONS.iter().chain([&NEXT]).take(version());
    for (step, sql) in steps.enumerate().skip(found) {
        let tx = connection.transaction()?;
        tx.execute_batch(sql)?;
        // Never lowered: whoever raised it knew why.
        let raise =
            "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = max(value, ?2)";
        tx.execute(raise, rusqlite::params![OLDEST_READER, NEEDS as i64])?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a step of the future has to answer for.
    #[test]
    fn steps_since_engines_come_over_the_air_only_add() {
        for sql in MIGRATIONS[NEEDS..].iter().chain([&NEXT]) {
            for word in ["DROP ", "RENAME ", "DELETE "] {
                assert!(
                    !sql.contains(word),
                    "{word}: an engine before this one still needs it, or raise NEEDS:\n{sql}"
                );
            }
            for added in sql.split(';').filter(|part| part.contains("ADD COLUMN") && part.contains("NOT NULL")) {
                assert!(added.contains("DEFAULT"), "an engine before this one writes no {added}");
            }
        }
    }
}
