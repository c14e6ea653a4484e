//! What a store holds for each destination, when it is opened or was replaced.

use super::file::read_side;
use super::group::Group;
use super::held::Keys;
use super::held_rows;
use super::keeper::chain;
use super::needs::{self, Need};
use super::ranges::Ranges;
use super::recount;
use super::rows::{self, DestinationRow};
use super::segment;
use super::settings::DestinationSettings;
use super::store::{Store, StoreError};
use super::tail::{Loaded, SEQ_BLOCK};
use super::wishes::Judge;

/// Stands for a selection that is being changed: whoever finds it counts again.
pub(super) const UNKNOWN: &str = "?";

/// Reads the cursors, forgets destinations that are no longer configured, counts again what a changed selection no
/// longer wants, and reserves numbers.
///
/// # Errors
/// When the disk or the file fails.
pub fn load(store: &mut Store, configured: &[DestinationSettings], judge: &mut Judge) -> Result<Loaded, StoreError> {
    let highest = store.highest_stored()?;
    let next_seq = store.seq_limit().max(highest + 1).max(1);
    let known = store.destinations()?;
    let mut rows = Vec::with_capacity(configured.len());
    let mut done = Vec::with_capacity(configured.len());
    let mut changed = Vec::new();
    let mut top = known.iter().map(|row| row.id).max().unwrap_or(0);
    for (i, settings) in configured.iter().enumerate() {
        let selection = text(settings);
        let found = known.iter().find(|row| row.name == settings.name);
        changed.extend(found.filter(|row| row.selection != selection).map(|_| i));
        let id = found.map(|row| row.id).filter(|id| *id > 0).unwrap_or_else(|| {
            top += 1;
            top
        });
        // A new destination starts now: the backlog of others is not for it.
        let upto = found.and_then(|row| Ranges::from_text(&row.done)).unwrap_or_else(|| Ranges::up_to(next_seq - 1));
        rows.push(DestinationRow { name: settings.name.clone(), done: upto.to_text(), id, selection });
        done.push(upto);
    }
    store.aim(rows.iter().map(|row| row.id).collect(), rows.iter().map(|row| row.name.clone()).collect());
    // Nothing to write in the file that is there: a full disk need not hinder reading it.
    let same = known.len() == rows.len() && rows.iter().all(|row| known.contains(row));
    if !same || store.meta("needs")?.is_none() {
        count_again(store, judge, &done, &rows, &changed)?;
        settle(store, &known, &rows)?;
    }
    let sets: Vec<&Ranges> = done.iter().collect();
    let (each, all) = waiting(store, judge, &sets)?;
    let seq_limit = next_seq + SEQ_BLOCK;
    let cursors = done.iter().cloned().enumerate().collect();
    let mut trouble = None;
    match store.commit(&Group { cursors, seq_limit, ..Group::default() }) {
        // What is there can be delivered all the same, and that makes room. The numbers are reserved beside it.
        Err(e) if e.is_no_room(store.path()) && read_side(store.path()) >= seq_limit => {
            let text = chain(&e);
            tracing::error!(error = %text, "the disk is full: what is stored is delivered, what is read stays in memory");
            trouble = Some(text);
        }
        done => done?,
    }
    let names = configured.iter().map(|settings| settings.name.clone());
    let destinations = names.zip(done).zip(each).map(|((name, done), waiting)| (name, done, waiting)).collect();
    Ok(Loaded { next_seq, seq_limit, destinations, waiting: all, held: held(store)?, trouble })
}

fn held(store: &Store) -> Result<Vec<(usize, Keys, u64)>, StoreError> {
    let rows = store.all_held(&store.names_of())?;
    Ok(rows.into_iter().map(|row| (row.destination, row.keys, row.readings)).collect())
}

/// Takes over a store that was made anew while the outbox runs: its rows of `need`, and what waits on it.
///
/// # Errors
/// When the disk or the file fails.
pub fn adopt(
    store: &mut Store,
    configured: &[DestinationSettings],
    judge: &mut Judge,
    targets: &[i64],
    done: &[Ranges],
) -> Result<(Vec<u64>, u64), StoreError> {
    store.aim(targets.to_vec(), configured.iter().map(|settings| settings.name.clone()).collect());
    recount::make(store, judge, done)?;
    let row = |(i, settings): (usize, &DestinationSettings)| DestinationRow {
        name: settings.name.clone(),
        done: done[i].to_text(),
        id: targets[i],
        selection: text(settings),
    };
    let rows: Vec<DestinationRow> = configured.iter().enumerate().map(row).collect();
    settle(store, &[], &rows)?;
    waiting(store, judge, &done.iter().collect::<Vec<_>>())
}

fn text(settings: &DestinationSettings) -> String {
    serde_json::to_string(&settings.selection).expect("a selection is plain strings")
}

fn count_again(
    store: &mut Store,
    judge: &mut Judge,
    done: &[Ranges],
    rows: &[DestinationRow],
    changed: &[usize],
) -> Result<(), StoreError> {
    if store.meta("needs")?.is_none() {
        return recount::make(store, judge, done);
    }
    if changed.is_empty() {
        return Ok(());
    }
    let tx = store.connection.transaction()?;
    for i in changed {
        rows::put_destination(&tx, &DestinationRow { selection: UNKNOWN.to_owned(), ..rows[*i].clone() })?;
    }
    tx.commit()?;
    recount::again(store, judge, done, changed)
}

/// From here on the rows of `need` are those of the configured destinations and of nobody else.
fn settle(store: &mut Store, known: &[DestinationRow], rows: &[DestinationRow]) -> Result<(), StoreError> {
    let targets = store.targets().to_vec();
    let tx = store.connection.transaction()?;
    for gone in known.iter().filter(|row| rows.iter().all(|r| r.name != row.name)) {
        let destination = &gone.name;
        tracing::warn!(destination, "destination is no longer configured; what waited for it alone is let go");
        tx.execute("DELETE FROM destination WHERE name = ?1", [destination])?;
        for (first, _) in needs::take_done(&tx, gone.id, &Ranges::up_to(u64::MAX))? {
            needs::drop_if_idle(&tx, &targets, first)?;
        }
    }
    if targets.is_empty() {
        tx.execute("DELETE FROM segment", [])?;
    }
    rows.iter().try_for_each(|row| rows::put_destination(&tx, row))?;
    held_rows::settle(&tx, &rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>())?;
    rows::put_meta(&tx, "needs", 1)?;
    Ok(tx.commit()?)
}

/// Readings on disk that each set does not cover, and those that some set does not cover.
///
/// # Errors
/// When the disk or the file fails.
pub fn waiting(store: &mut Store, judge: &mut Judge, done: &[&Ranges]) -> Result<(Vec<u64>, u64), StoreError> {
    let (mut each, mut all, mut at) = (vec![0; done.len()], 0, 0);
    while let Some((first, needs)) = next_of_all(store, at)? {
        let whole = |(need, set): (&Option<Need>, &&Ranges)| need.is_none_or(|n| set.misses(n.first, n.last));
        let need = needs.iter().flatten().next().expect("somebody needs it");
        at = need.last + 1;
        if needs.iter().zip(done).all(whole) {
            each.iter_mut().zip(&needs).for_each(|(n, need)| *n += need.map_or(0, |need| need.readings));
            all += need.anyone;
        } else {
            let Some(segment) = store.segment_at(first, first + 1)? else { continue };
            let Ok(parcels) = segment::decode(&segment) else { continue };
            let Ok(names) = store.names(segment.epoch) else { continue };
            let wishes = judge.wishes(&names);
            for parcel in parcels {
                let census = wishes.census(&parcel.batch);
                let mut wanted = false;
                for (i, set) in done.iter().enumerate().filter(|(i, _)| needs[*i].is_some()) {
                    let waits = census.is_wanted_by(i) && !set.contains(parcel.seq);
                    each[i] += if waits { u64::from(census.share(i).readings) } else { 0 };
                    wanted |= waits;
                }
                all += if wanted { u64::from(census.any) } else { 0 };
            }
        }
    }
    Ok((each, all))
}

/// The next segment from there on that anybody needs, and what each needs of it.
#[expect(clippy::type_complexity, reason = "its first number, and a row for each destination")]
fn next_of_all(store: &Store, at: u64) -> Result<Option<(u64, Vec<Option<Need>>)>, StoreError> {
    let mut needs = Vec::with_capacity(store.targets().len());
    for target in store.targets() {
        needs.push(needs::next(&store.connection, *target, at)?);
    }
    let Some(first) = needs.iter().flatten().map(|need| need.first).min() else { return Ok(None) };
    needs.iter_mut().for_each(|need| *need = need.filter(|need| need.first == first));
    Ok(Some((first, needs)))
}
