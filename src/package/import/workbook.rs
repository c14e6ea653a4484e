//! Which sheet of a workbook is read, and in which parts of the archive it lies.

use super::xlsx::{attribute, walk};
use crate::package::source::Source;
use quick_xml::events::{BytesStart, Event};
use std::collections::HashMap;

/// Parts of the chosen sheet.
pub(super) struct Parts {
    pub name: String,
    pub sheet: String,
    pub strings: Option<String>,
    pub styles: Option<String>,
    /// Visible sheets that are not read.
    pub others: Vec<String>,
}

struct Sheet {
    name: String,
    id: String,
    hidden: bool,
}

/// The sheet of that name; without one the first that can be seen.
pub(super) fn find(source: &Source, wanted: Option<&str>) -> Result<Parts, (String, &'static str)> {
    let again = "save it as .xlsx again";
    if source.contains("content.xml") && source.contains("mimetype") {
        return Err(("it is an OpenDocument sheet".to_owned(), "save it as .xlsx, or as CSV UTF-8"));
    }
    if !source.contains("xl/workbook.xml") {
        return Err(("it is a zip, and no .xlsx workbook".to_owned(), again));
    }
    let sheets = sheets(source).map_err(|problem| (problem, again))?;
    let related = related(source).map_err(|problem| (problem, again))?;
    let found = match wanted {
        None => sheets.iter().find(|sheet| !sheet.hidden).or(sheets.first()),
        Some(name) => sheets.iter().find(|sheet| sheet.name == name),
    };
    let Some(found) = found else {
        let known: Vec<&str> = sheets.iter().map(|sheet| sheet.name.as_str()).collect();
        let problem = format!("there is no sheet \"{}\"; there are: {}", wanted.unwrap_or_default(), known.join(", "));
        return Err((problem, "name one of them with --sheet"));
    };
    let sheet = related.by_id.get(&found.id).cloned().ok_or_else(|| ("the sheet has no part".to_owned(), again))?;
    let others = sheets.iter().filter(|sheet| !sheet.hidden && sheet.name != found.name);
    let others = others.map(|sheet| sheet.name.clone()).collect();
    let there = |part: Option<String>| part.filter(|part| source.contains(part));
    let or = |part: Option<String>, usual: &str| there(part).or_else(|| there(Some(usual.to_owned())));
    let (strings, styles) = (or(related.strings, "xl/sharedStrings.xml"), or(related.styles, "xl/styles.xml"));
    Ok(Parts { name: found.name.clone(), sheet, strings, styles, others })
}

fn element<'e>(event: &'e Event<'_>, name: &[u8]) -> Option<&'e BytesStart<'e>> {
    match event {
        Event::Start(e) | Event::Empty(e) if e.local_name().as_ref() == name => Some(e),
        _ => None,
    }
}

fn sheets(source: &Source) -> Result<Vec<Sheet>, String> {
    let mut sheets = Vec::new();
    walk(source, "xl/workbook.xml", |event| {
        if let Some(e) = element(&event, b"sheet") {
            let hidden = attribute(e, b"state")?.is_some_and(|state| state != "visible");
            // `r:id` beside `sheetId`.
            let (name, id) = (attribute(e, b"name")?.unwrap_or_default(), attribute(e, b"id")?.unwrap_or_default());
            sheets.push(Sheet { name, id, hidden });
        }
        Ok(())
    })?;
    Ok(sheets)
}

#[derive(Default)]
struct Related {
    by_id: HashMap<String, String>,
    strings: Option<String>,
    styles: Option<String>,
}

/// Parts are found by what the workbook says of them: not every producer names them as Excel does.
fn related(source: &Source) -> Result<Related, String> {
    let mut related = Related::default();
    walk(source, "xl/_rels/workbook.xml.rels", |event| {
        let Some(e) = element(&event, b"Relationship") else { return Ok(()) };
        let Some(target) = attribute(e, b"Target")? else { return Ok(()) };
        let part = target.strip_prefix('/').map_or_else(|| format!("xl/{target}"), str::to_owned);
        let kind = attribute(e, b"Type")?.unwrap_or_default();
        match kind.rsplit('/').next() {
            Some("sharedStrings") => related.strings = Some(part.clone()),
            Some("styles") => related.styles = Some(part.clone()),
            _ => {}
        }
        if let Some(id) = attribute(e, b"Id")? {
            related.by_id.insert(id, part);
        }
        Ok(())
    })?;
    Ok(related)
}
