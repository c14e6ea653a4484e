//! Sends a file to a node of FileType (OPC 10000-20, clause 4.2): Open, Write after Write, Close; and, if the package
//! wants it, Open, Read after Read, Close to compare. One piece a step.

use crate::line::{Failure, Talk};
use crate::node::Node;
use crate::session::OpcUaSession;
use driver::{Diagnostic, Parameters, Phase, Place, Transfer, TransferError, TransferShape};
use opcua::client::services::{Call, Read, TranslateBrowsePaths};
use opcua::types::{
    AttributeId, BrowsePath, ByteString, CallMethodRequest, MethodId, NodeId, ReadValueId, ReferenceTypeId,
    RelativePath, RelativePathElement, StatusCode, TimestampsToReturn, VariableId, Variant,
};
use std::time::Duration;

/// Bits of Open's mode (table 3).
const READ: u8 = 1;
const WRITE_AND_ERASE: u8 = 2 | 4;
/// Requests of the longest step: an old handle is closed, methods and limits are found, the file is opened.
const REQUESTS: u32 = 5;
/// Largest piece; the library takes no longer byte string back.
const MOST_CHUNK: u32 = 1 << 20;
const CHUNK: u32 = 32 << 10;
/// A file's size is an UInt64 there; here it is bounded by what anybody sends as firmware.
const MOST: u64 = 4 << 30;

/// How a device takes a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileStore {
    pub(crate) node: Node,
    pub(crate) chunk: usize,
    pub(crate) read_back: bool,
}

const KEYS: &[&str] = &["file", "chunk_bytes", "read_back"];
const YES: &[(&str, bool)] =
    &[("true", true), ("false", false), ("yes", true), ("no", false), ("on", true), ("off", false)];

impl FileStore {
    /// Reads `transfer:` of a device's firmware. `address` is put in the place of `{address}`.
    pub(crate) fn parse(
        own: &Parameters,
        place: &Place,
        address: Option<&str>,
        faults: &mut Vec<Diagnostic>,
    ) -> Option<FileStore> {
        own.refuse_unknown(KEYS, faults);
        let read_back = own.word_or("read_back", false, YES, faults);
        let shape = format!("whole bytes, 1 to {MOST_CHUNK}");
        let mut chunk = own.parse_or("chunk_bytes", CHUNK, &shape, faults);
        if let (false, Some(text)) = ((1..=MOST_CHUNK).contains(&chunk), own.get("chunk_bytes")) {
            let problem = format!("chunk_bytes: \"{}\" does not fit", text.text);
            faults.push(Diagnostic::error(text.place.clone(), problem).help(format!("write {shape}")));
            chunk = CHUNK;
        }
        let Some(written) = own.get("file") else {
            let at = own.entries.first().map_or(place, |(key, _)| &key.place);
            faults.push(
                Diagnostic::error(at.clone(), "transfer has no file")
                    .help("add file: and the NodeId of the object of FileType, for example ns=2;s=Firmware"),
            );
            return None;
        };
        if written.text.contains(crate::plan::ADDRESS) && address.is_none() {
            let problem = "{address} is used, but a device of this template has no address";
            faults.push(Diagnostic::error(written.place.clone(), problem).help("give it an address in assets.yaml"));
            return None;
        }
        let text = written.text.replace(crate::plan::ADDRESS, address.unwrap_or_default());
        let node = Node::parse(&text);
        if node.is_none() {
            faults.push(
                Diagnostic::error(written.place.clone(), format!("\"{text}\" is no NodeId"))
                    .help("write ns=2;s=Name, ns=2;i=17, or nsu=urn:maker;s=Name"),
            );
        }
        Some(FileStore { node: node?, chunk: usize::try_from(chunk).unwrap_or(1), read_back })
    }

    pub(crate) fn shape(&self, timeout: Duration) -> TransferShape {
        TransferShape {
            most: MOST,
            piece: self.chunk,
            // Each request has a little more than its dead-line, see line.rs.
            patience: (timeout + Duration::from_millis(200)) * REQUESTS,
            // A handle belongs to its session (clause 4.2.2), and what was written under it is the server's to keep or not.
            resumes: false,
        }
    }
}

/// A file this session has begun.
pub(crate) struct Upload {
    id: u64,
    object: NodeId,
    methods: Methods,
    handle: Option<u32>,
    chunk: usize,
}

struct Methods {
    open: NodeId,
    close: NodeId,
    read: NodeId,
    write: NodeId,
}

/// One piece, or what has to be done before and after the pieces.
pub(crate) async fn step(session: &mut OpcUaSession, device: u32, file: &mut Transfer) -> Result<(), TransferError> {
    let shared = std::sync::Arc::clone(&session.shared);
    if let Some(error) = shared.mailbox.error() {
        return Err(error.into());
    }
    let refused = |why: &str| TransferError::Refused(why.to_owned());
    let store = shared.inner.files.get(device as usize).and_then(Option::as_ref);
    let store = store.ok_or_else(|| refused("the package says not how this device takes a file"))?;
    let object = session.files.get(device as usize).and_then(Clone::clone);
    let object = object.ok_or_else(|| refused("the server does not have the namespace of the file"))?;
    let talk = &*shared.talk;
    if session.upload.as_ref().is_none_or(|upload| upload.id != file.id) {
        if let Some(old) = session.upload.take() {
            hang_up(talk, &old).await;
        }
        session.upload = Some(begin(talk, store, object, file.id).await?);
        file.enter(Phase::Writing);
    }
    let Some(upload) = &mut session.upload else { return Ok(()) };
    let result = match file.phase {
        Phase::Writing => write(talk, upload, file, store.read_back).await,
        Phase::Checking => check(talk, upload, file).await,
        Phase::Done => Ok(()),
    };
    shared.hear();
    if matches!(result, Err(TransferError::Refused(_)))
        && let Some(upload) = session.upload.take()
    {
        // Nothing more comes of it; an open handle would keep others out until the session ends.
        hang_up(talk, &upload).await;
    }
    result
}

async fn begin(talk: &Talk, store: &FileStore, object: NodeId, id: u64) -> Result<Upload, TransferError> {
    let (methods, own_limit) = methods(talk, &object).await?;
    let limits = [Some(VariableId::Server_ServerCapabilities_MaxByteStringLength.into()), own_limit];
    let mut chunk = store.chunk;
    for limit in limits.into_iter().flatten() {
        if let Some(most) = number(talk, limit).await?.filter(|most| *most > 0) {
            chunk = chunk.min(most);
        }
    }
    Ok(Upload { id, object, methods, handle: None, chunk })
}

async fn write(talk: &Talk, upload: &mut Upload, file: &mut Transfer, read_back: bool) -> Result<(), TransferError> {
    let Some(handle) = upload.handle else {
        // What was there is erased, so this is always the beginning.
        file.enter(Phase::Writing);
        upload.handle = Some(open(talk, upload, WRITE_AND_ERASE).await?);
        return Ok(());
    };
    if !file.is_through() {
        let most = upload.chunk;
        let Some(bytes) = file.bytes(most) else { return Ok(()) };
        let (len, bytes) = (bytes.len(), ByteString::from(bytes.to_vec()));
        let arguments = vec![Variant::UInt32(handle), Variant::ByteString(bytes)];
        match call(talk, upload, &upload.methods.write, "write to the file", arguments).await {
            Ok(_) => file.advance(len),
            Err(Trouble { too_much: true, .. }) if len > 1 => upload.chunk = len / 2,
            Err(trouble) => return Err(trouble.error),
        }
    }
    if file.is_through() {
        close(talk, upload, handle).await?;
        file.enter(if read_back { Phase::Checking } else { Phase::Done });
    }
    Ok(())
}

async fn check(talk: &Talk, upload: &mut Upload, file: &mut Transfer) -> Result<(), TransferError> {
    let Some(handle) = upload.handle else {
        file.enter(Phase::Checking);
        upload.handle = Some(open(talk, upload, READ).await?);
        return Ok(());
    };
    if !file.is_through() {
        let most = upload.chunk;
        let Some(bytes) = file.bytes(most) else { return Ok(()) };
        let want = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
        let arguments = vec![Variant::UInt32(handle), Variant::Int32(want)];
        let held = match call(talk, upload, &upload.methods.read, "read the file back", arguments).await {
            Ok(held) => held,
            Err(Trouble { too_much: true, .. }) if want > 1 => {
                upload.chunk = bytes.len() / 2;
                return Ok(());
            }
            Err(trouble) => return Err(trouble.error),
        };
        let Some(Variant::ByteString(held)) = held.into_iter().next() else {
            return Err(TransferError::Refused("the server's Read of the file gives no bytes".to_owned()));
        };
        let held = held.value.unwrap_or_default();
        // Read may give fewer bytes than asked for; none is the end of the file (clause 4.2.4).
        if held.is_empty() || bytes.get(..held.len()) != Some(&*held) {
            let at = file.done;
            let more = if held.is_empty() {
                format!("ends at byte {at} of {}", file.size)
            } else {
                format!("is another one from byte {at} on")
            };
            return Err(TransferError::Refused(format!("the file that the server holds {more}")));
        }
        file.advance(held.len());
    }
    if file.is_through() {
        close(talk, upload, handle).await?;
        file.enter(Phase::Done);
    }
    Ok(())
}

async fn open(talk: &Talk, upload: &Upload, mode: u8) -> Result<u32, TransferError> {
    let answer = call(talk, upload, &upload.methods.open, "open the file", vec![Variant::Byte(mode)]).await;
    match answer.map_err(|trouble| trouble.error)?.first() {
        Some(Variant::UInt32(handle)) => Ok(*handle),
        _ => Err(TransferError::Refused("the server's Open of the file gives no handle".to_owned())),
    }
}

async fn close(talk: &Talk, upload: &mut Upload, handle: u32) -> Result<(), TransferError> {
    upload.handle = None;
    let closed = call(talk, upload, &upload.methods.close, "close the file", vec![Variant::UInt32(handle)]).await;
    closed.map(drop).map_err(|trouble| trouble.error)
}

/// Best effort: the server closes it with the session.
async fn hang_up(talk: &Talk, upload: &Upload) {
    if let Some(handle) = upload.handle {
        let _ = call(talk, upload, &upload.methods.close, "close the file", vec![Variant::UInt32(handle)]).await;
    }
}

struct Trouble {
    /// Fewer bytes may pass.
    too_much: bool,
    error: TransferError,
}

impl Trouble {
    fn of_request(doing: &str, failure: Failure) -> Trouble {
        let too_much = failure.too_much();
        let error = match failure.status {
            _ if too_much => TransferError::Refused(format!("{doing}: {}", failure.status)),
            StatusCode::BadServiceUnsupported | StatusCode::BadNotSupported | StatusCode::BadUserAccessDenied => {
                TransferError::Refused(format!("{doing}: {}", failure.status))
            }
            StatusCode::BadServerTooBusy | StatusCode::BadResourceUnavailable => {
                TransferError::Busy(format!("{doing}: {}", failure.status))
            }
            _ => failure.error.into(),
        };
        Trouble { too_much, error }
    }

    fn of_method(doing: &str, status: StatusCode) -> Trouble {
        let words = format!("{doing}: {status}");
        let too_much = matches!(
            status,
            StatusCode::BadRequestTooLarge | StatusCode::BadEncodingLimitsExceeded | StatusCode::BadOutOfMemory
        );
        // Somebody else has it open, or the server still keeps the handle of a session that broke (table 4).
        let passing = [StatusCode::BadInvalidState, StatusCode::BadServerTooBusy, StatusCode::BadResourceUnavailable];
        let error = if passing.contains(&status) { TransferError::Busy(words) } else { TransferError::Refused(words) };
        Trouble { too_much, error }
    }
}

async fn call(
    talk: &Talk,
    upload: &Upload,
    method: &NodeId,
    doing: &str,
    arguments: Vec<Variant>,
) -> Result<Vec<Variant>, Trouble> {
    let (number, timeout, token, handle) = talk.head();
    let one = CallMethodRequest {
        object_id: upload.object.clone(),
        method_id: method.clone(),
        input_arguments: Some(arguments),
    };
    let request = Call::new_manual(number, timeout, token, handle).methods_to_call(vec![one]);
    let answer = talk.call(doing, request).await.map_err(|failure| Trouble::of_request(doing, failure))?;
    let result = answer.results.and_then(|mut results| results.pop());
    match result {
        Some(result) if result.status_code.is_good() => Ok(result.output_arguments.unwrap_or_default()),
        Some(result) => Err(Trouble::of_method(doing, result.status_code)),
        None => Err(Trouble { too_much: false, error: TransferError::Refused(format!("{doing}: no result")) }),
    }
}

/// The object's own methods, and its property with the longest byte string if it has one. A server that does not tell
/// is asked by the methods of the type, as clause 5.12.2 of OPC 10000-4 allows.
async fn methods(talk: &Talk, object: &NodeId) -> Result<(Methods, Option<NodeId>), TransferError> {
    const NAMES: [&str; 5] = ["Open", "Close", "Read", "Write", "MaxByteStringLength"];
    let path = |name: &str| {
        let property = name == NAMES[4];
        let kind = if property { ReferenceTypeId::HasProperty } else { ReferenceTypeId::HasComponent };
        let element = RelativePathElement {
            reference_type_id: kind.into(),
            is_inverse: false,
            include_subtypes: true,
            target_name: name.into(),
        };
        BrowsePath { starting_node: object.clone(), relative_path: RelativePath { elements: Some(vec![element]) } }
    };
    let (number, timeout, token, handle) = talk.head();
    let request = TranslateBrowsePaths::new_manual(number, timeout, token, handle)
        .browse_paths(NAMES.iter().map(|name| path(name)).collect());
    let answer = match talk.call("find the methods of the file", request).await {
        Ok(answer) => answer.results.unwrap_or_default(),
        Err(failure) if failure.status == StatusCode::BadServiceUnsupported => Vec::new(),
        Err(failure) => return Err(Trouble::of_request("find the methods of the file", failure).error),
    };
    let nowhere = [StatusCode::BadNodeIdUnknown, StatusCode::BadNodeIdInvalid];
    if answer.first().is_some_and(|first| nowhere.contains(&first.status_code)) {
        return Err(TransferError::Refused(format!("the server has no node {object} that could take the file")));
    }
    let mut found = answer.into_iter().map(|result| {
        let target = result.targets.and_then(|targets| targets.into_iter().next());
        target.filter(|_| result.status_code.is_good()).map(|target| target.target_id.node_id)
    });
    let mut next = || found.next().flatten();
    let own = |found: Option<NodeId>, kind: MethodId| found.unwrap_or_else(|| kind.into());
    let methods = Methods {
        open: own(next(), MethodId::FileType_Open),
        close: own(next(), MethodId::FileType_Close),
        read: own(next(), MethodId::FileType_Read),
        write: own(next(), MethodId::FileType_Write),
    };
    let limit = next();
    Ok((methods, limit))
}

/// A limit of the server; `None` when it tells none.
async fn number(talk: &Talk, node: NodeId) -> Result<Option<usize>, TransferError> {
    let (number, timeout, token, handle) = talk.head();
    let request = Read::new_manual(number, timeout, token, handle)
        .timestamps_to_return(TimestampsToReturn::Neither)
        .node(ReadValueId::new(node, AttributeId::Value));
    match talk.call("read the limit of byte strings", request).await {
        Ok(answer) => Ok(match answer.results.and_then(|mut results| results.pop()).and_then(|data| data.value) {
            Some(Variant::UInt32(most)) => usize::try_from(most).ok(),
            _ => None,
        }),
        Err(failure) if failure.status == StatusCode::BadNodeIdUnknown => Ok(None),
        Err(failure) => Err(failure.error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::testkit::parameters;

    fn parse(pairs: &[(&str, &str)], address: Option<&str>) -> Result<FileStore, Vec<String>> {
        let mut faults = Vec::new();
        let place = Place::new(&"template.yaml".into(), 3, 1);
        let store = FileStore::parse(&parameters(pairs), &place, address, &mut faults);
        store.filter(|_| faults.is_empty()).ok_or_else(|| faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_node_is_enough_and_may_hold_the_address() {
        let store = parse(&[("file", "ns=2;s={address}.Firmware")], Some("Press7")).unwrap();
        assert_eq!(Some(&store.node), Node::parse("ns=2;s=Press7.Firmware").as_ref());
        assert_eq!((store.chunk, store.read_back), (32_768, false));
        assert!(!store.shape(Duration::from_secs(1)).resumes);
    }

    #[test]
    fn every_fault_is_told() {
        let told = parse(&[("fille", "x"), ("chunk_bytes", "0"), ("read_back", "maybe")], None).unwrap_err();
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(parse(&[("file", "Firmware")], None).unwrap_err()[0].contains("is no NodeId"));
        assert!(parse(&[("file", "ns=2;s={address}")], None).unwrap_err()[0].contains("has no address"));
        assert!(parse(&[], None).unwrap_err()[0].starts_with("template.yaml:3:1"));
    }
}
