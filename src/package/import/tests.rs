//! Importing whole files: golden ones in testcases/point-imports, and workbooks made here, good and hostile.

use super::*;
use std::io::Write;
use std::path::PathBuf;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testcases/point-imports")
}

/// What an import says and yields, as one text.
fn told(path: &Path) -> String {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let tell = |faults: &[Diagnostic]| {
        let lines: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
        lines.replace(&path.display().to_string(), &name)
    };
    match read(path, None, &Progress::default()) {
        Ok(imported) => format!("{}-- {} points\n{}", tell(&imported.left), imported.rows, imported.csv),
        Err(faults) => format!("{}-- refused\n", tell(&faults)),
    }
}

#[test]
fn golden_files_import_as_expected() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut count = 0;
    for entry in std::fs::read_dir(cases()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "txt" || end == "md") {
            continue;
        }
        count += 1;
        let expected = path.with_extension("expected.txt");
        let got = told(&path);
        if update {
            std::fs::write(&expected, &got).unwrap();
        }
        assert_eq!(got, std::fs::read_to_string(&expected).unwrap_or_default(), "{}", path.display());
    }
    assert!(count >= 2);
}

fn workbook(folder: &Path, sheet: &str, strings: Option<&str>) -> PathBuf {
    let path = folder.join("table.xlsx");
    let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
    let workbook = r#"<?xml version="1.0"?><workbook xmlns:r="x"><sheets><sheet name="点表" sheetId="1" r:id="rId3"/></sheets></workbook>"#;
    let rels = r#"<Relationships><Relationship Id="rId3" Target="worksheets/sheet1.xml"/></Relationships>"#;
    let parts = [
        ("[Content_Types].xml", "<Types/>"),
        ("_rels/.rels", "<Relationships/>"),
        ("xl/workbook.xml", workbook),
        ("xl/_rels/workbook.xml.rels", rels),
        ("xl/worksheets/sheet1.xml", sheet),
    ];
    for (name, text) in parts.into_iter().chain(strings.map(|text| ("xl/sharedStrings.xml", text))) {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    path
}

fn row(number: u32, cells: &[&str]) -> String {
    let cell = |(at, text): (usize, &&str)| {
        format!("<c r=\"{}{number}\" t=\"inlineStr\"><is><t>{text}</t></is></c>", char::from(b'A' + at as u8))
    };
    format!("<row r=\"{number}\">{}</row>", cells.iter().enumerate().map(cell).collect::<String>())
}

fn sheet(rows: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><worksheet><sheetData>{rows}</sheetData></worksheet>")
}

const HEAD: [&str; 4] = ["测点名", "点号", "值类型", "点类型"];

#[test]
fn a_workbook_with_chinese_headers_becomes_a_point_table() {
    let folder = tempfile::tempdir().unwrap();
    let numbers = "<row r=\"4\"><c r=\"A4\" t=\"s\"><v>0</v></c><c r=\"B4\"><v>3060</v></c><c r=\"C4\" t=\"s\"><v>1</v></c><c r=\"D4\" t=\"str\"><v>ai</v></c></row>";
    let strings = "<sst><si><r><t>有功</t></r><r><t>功率 &amp; P</t></r><rPh><t>yougong</t></rPh></si><si><t>float</t></si></sst>";
    let text = sheet(&(row(1, &HEAD) + &row(2, &["电压, L1", "3000", "float", "ai"]) + numbers));
    let imported = read(&workbook(folder.path(), &text, Some(strings)), None, &Progress::default()).unwrap();
    assert_eq!(imported.left, []);
    assert_eq!(imported.csv, "测点名,点号,值类型,点类型\n\"电压, L1\",3000,float,ai\n有功功率 & P,3060,float,ai\n");
    assert!(
        read(&folder.path().join("table.xlsx"), Some("x"), &Progress::default()).unwrap_err()[0]
            .problem
            .contains("there are: 点表")
    );
}

#[test]
fn faulty_rows_stay_behind_with_their_place_in_the_sheet() {
    let folder = tempfile::tempdir().unwrap();
    let error = "<row r=\"9\"><c r=\"A9\" t=\"str\"><v>P</v></c><c r=\"B9\" t=\"e\"><v>#REF!</v></c></row>";
    let text =
        sheet(&(row(1, &HEAD) + &row(5, &["U", "1", "flaot", "ai"]) + &row(7, &["I", "2", "float", "ai"]) + error));
    let imported = read(&workbook(folder.path(), &text, None), None, &Progress::default()).unwrap();
    assert_eq!((imported.rows, imported.csv.lines().last()), (1, Some("I,2,float,ai")));
    let told = crate::diagnostic::joined(&imported.left);
    assert!(
        told.contains("table.xlsx: 点表!C5: value type \"flaot\"") && told.contains("did you mean float?"),
        "{told}"
    );
    assert!(told.contains("table.xlsx: 点表!B9: the cell holds the error #REF!"), "{told}");
}

#[test]
fn hostile_workbooks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |text: &str, strings: Option<&str>| {
        crate::diagnostic::joined(
            &read(&workbook(folder.path(), text, strings), None, &Progress::default()).unwrap_err(),
        )
    };
    let laughs = "<!DOCTYPE x [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]>";
    assert!(
        refused(&sheet(&row(1, &HEAD)).replace("<worksheet>", &format!("{laughs}<worksheet>")), None)
            .contains("document type")
    );
    assert!(refused(&sheet(&row(1, &["&b;"])), None).contains("entity \"b\" is not known"));
    assert!(refused(&sheet(&(row(7, &HEAD) + &row(3, &["x"]))), None).contains("row 3 stands behind row 7"));
    assert!(refused(&sheet(&row(2_000_000, &HEAD)), None).contains("row 2000000"));
    assert!(refused("<worksheet><sheetData><row></c>", None).contains("sheet1.xml"));
    assert!(
        refused(&sheet("<row r=\"1\"><c r=\"A1\" t=\"s\"><v>99</v></c></row>"), Some("<sst/>")).contains("text 99")
    );
    assert!(refused(&sheet(&"<x/>".repeat(4 << 20)), None).contains("table.xlsx"), "a bomb passes the ratio");
}

#[test]
fn shared_texts_can_not_be_used_to_blow_a_sheet_up() {
    let folder = tempfile::tempdir().unwrap();
    let strings = format!("<sst><si><t>{}</t></si></sst>", "x".repeat(1 << 20));
    let cells: String = (1..=400).map(|n| format!("<row r=\"{n}\"><c t=\"s\"><v>0</v></c></row>")).collect();
    let refused =
        read(&workbook(folder.path(), &sheet(&cells), Some(&strings)), None, &Progress::default()).unwrap_err();
    assert!(refused[0].problem.contains("bytes of text"), "{refused:?}");
}

#[test]
fn imported_tags_are_points_the_modbus_protocol_reads() {
    use crate::package::scaffold::{self, Wanted};
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("p");
    scaffold::create(&folder, &Wanted { name: "p", protocol: "modbus-tcp", model: None }).unwrap();
    let imported = read(&cases().join("kepware.csv"), None, &Progress::default()).unwrap();
    std::fs::write(folder.join("templates/device/point.csv"), imported.csv).unwrap();
    let mapping = "mapping:\n  - { point: temperature, mapping: ai.400001 }\n  - { point: running, mapping: di.000005, control: do.000005 }\n";
    std::fs::write(folder.join("templates/device/mapping.yaml"), mapping).unwrap();
    let checked = crate::package::check(&folder, &modbus::protocols());
    assert_eq!(checked.errors(), 0, "{}", crate::diagnostic::joined(&checked.diagnostics));
    assert_eq!(checked.counts.points, 13);
}
