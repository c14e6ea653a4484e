//! PURE. MQTT 3.1.1 packets as a server sees them: QoS 0 and 1, which is all EnOS takes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    Connect(Connect),
    Publish(Publish),
    PubAck(u16),
    Subscribe { pkid: u16, filters: Vec<(String, u8)> },
    Unsubscribe { pkid: u16, filters: Vec<String> },
    PingReq,
    Disconnect,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connect {
    pub level: u8,
    pub clean_session: bool,
    pub keep_alive_s: u16,
    pub client_id: String,
    pub user_name: Option<String>,
    pub password: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    pub topic: String,
    pub payload: Bytes,
    /// `Some` is QoS 1.
    pub pkid: Option<u16>,
    pub dup: bool,
    /// Length of the whole packet, which the 512 KB limit is about.
    pub packet_len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("packet of {0} bytes is too large")]
    TooLarge(usize),
    #[error("malformed {0}")]
    Malformed(&'static str),
    #[error("packet type {0} is not for a server")]
    Unexpected(u8),
    #[error("QoS 2 is not offered")]
    Qos2,
}

/// Takes one packet off the front of `buffer`; `None` when more bytes are needed.
///
/// # Errors
/// When the client breaks the protocol; the connection must be closed then (MQTT 3.1.1 4.8).
pub fn decode(buffer: &mut BytesMut, max: usize) -> Result<Option<Incoming>, CodecError> {
    let Some((header, body_len)) = fixed_header(buffer)? else { return Ok(None) };
    let len = header + body_len;
    if len > max {
        return Err(CodecError::TooLarge(len));
    }
    if buffer.len() < len {
        buffer.reserve(len - buffer.len());
        return Ok(None);
    }
    let mut packet = buffer.split_to(len).freeze();
    let first = packet[0];
    packet.advance(header);
    decode_body(first, packet, len).map(Some)
}

/// Length of the fixed header and of what follows it.
fn fixed_header(buffer: &[u8]) -> Result<Option<(usize, usize)>, CodecError> {
    let mut length = 0usize;
    for (i, byte) in buffer.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((i + 2, length)));
        }
    }
    if buffer.len() >= 5 { Err(CodecError::Malformed("remaining length")) } else { Ok(None) }
}

fn decode_body(first: u8, mut body: Bytes, packet_len: usize) -> Result<Incoming, CodecError> {
    match first >> 4 {
        1 => decode_connect(&mut body).map(Incoming::Connect),
        3 => decode_publish(first, body, packet_len).map(Incoming::Publish),
        4 => Ok(Incoming::PubAck(u16_of(&mut body)?)),
        8 => {
            let pkid = u16_of(&mut body)?;
            let mut filters = Vec::new();
            while body.has_remaining() {
                let filter = text_of(&mut body)?;
                filters.push((filter, byte_of(&mut body)?));
            }
            Ok(Incoming::Subscribe { pkid, filters })
        }
        10 => {
            let pkid = u16_of(&mut body)?;
            let mut filters = Vec::new();
            while body.has_remaining() {
                filters.push(text_of(&mut body)?);
            }
            Ok(Incoming::Unsubscribe { pkid, filters })
        }
        12 => Ok(Incoming::PingReq),
        14 => Ok(Incoming::Disconnect),
        other => Err(CodecError::Unexpected(other)),
    }
}

fn decode_connect(body: &mut Bytes) -> Result<Connect, CodecError> {
    if text_of(body)? != "MQTT" {
        return Err(CodecError::Malformed("protocol name"));
    }
    let level = byte_of(body)?;
    let flags = byte_of(body)?;
    let keep_alive_s = u16_of(body)?;
    let client_id = text_of(body)?;
    if flags & 0x04 != 0 {
        text_of(body)?;
        let will = usize::from(u16_of(body)?);
        if body.remaining() < will {
            return Err(CodecError::Malformed("will"));
        }
        body.advance(will);
    }
    let user_name = (flags & 0x80 != 0).then(|| text_of(body)).transpose()?;
    let password = (flags & 0x40 != 0).then(|| text_of(body)).transpose()?;
    Ok(Connect { level, clean_session: flags & 0x02 != 0, keep_alive_s, client_id, user_name, password })
}

fn decode_publish(first: u8, mut body: Bytes, packet_len: usize) -> Result<Publish, CodecError> {
    let qos = (first >> 1) & 3;
    if qos > 1 {
        return Err(CodecError::Qos2);
    }
    let topic = text_of(&mut body)?;
    let pkid = (qos == 1).then(|| u16_of(&mut body)).transpose()?;
    Ok(Publish { topic, payload: body, pkid, dup: first & 0x08 != 0, packet_len })
}

fn byte_of(body: &mut Bytes) -> Result<u8, CodecError> {
    body.try_get_u8().map_err(|_| CodecError::Malformed("packet: too short"))
}

fn u16_of(body: &mut Bytes) -> Result<u16, CodecError> {
    body.try_get_u16().map_err(|_| CodecError::Malformed("packet: too short"))
}

fn text_of(body: &mut Bytes) -> Result<String, CodecError> {
    let len = usize::from(u16_of(body)?);
    if body.remaining() < len {
        return Err(CodecError::Malformed("text: too short"));
    }
    let text = std::str::from_utf8(&body[..len]).map_err(|_| CodecError::Malformed("text: not UTF-8"))?.to_owned();
    body.advance(len);
    Ok(text)
}

/// CONNACK without a session: code 0 takes the client, 3, 4 and 5 refuse it.
pub fn put_connack(out: &mut BytesMut, code: u8) {
    out.put_slice(&[0x20, 2, 0, code]);
}

pub fn put_puback(out: &mut BytesMut, pkid: u16) {
    out.put_slice(&[0x40, 2]);
    out.put_u16(pkid);
}

/// One code a filter: 0, 1 or 0x80 (refused).
pub fn put_suback(out: &mut BytesMut, pkid: u16, codes: &[u8]) {
    out.put_u8(0x90);
    put_length(out, 2 + codes.len());
    out.put_u16(pkid);
    out.put_slice(codes);
}

pub fn put_unsuback(out: &mut BytesMut, pkid: u16) {
    out.put_slice(&[0xb0, 2]);
    out.put_u16(pkid);
}

pub fn put_pingresp(out: &mut BytesMut) {
    out.put_slice(&[0xd0, 0]);
}

/// A PUBLISH to the client; `pkid` makes it QoS 1.
pub fn put_publish(out: &mut BytesMut, topic: &str, payload: &[u8], pkid: Option<u16>) {
    out.put_u8(if pkid.is_some() { 0x32 } else { 0x30 });
    put_length(out, 2 + topic.len() + if pkid.is_some() { 2 } else { 0 } + payload.len());
    out.put_u16(u16::try_from(topic.len()).expect("topics were texts of at most 65535 bytes"));
    out.put_slice(topic.as_bytes());
    if let Some(pkid) = pkid {
        out.put_u16(pkid);
    }
    out.put_slice(payload);
}

fn put_length(out: &mut BytesMut, mut length: usize) {
    loop {
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        out.put_u8(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flags 0xC2 with user name and password, as the vendor's clients send it.
    fn connect_packet() -> BytesMut {
        let mut body = BytesMut::new();
        body.put_slice(b"\x00\x04MQTT");
        body.put_slice(&[4, 0xc2, 0, 60]);
        for text in ["cid", "dk&pk", "secret"] {
            body.put_u16(text.len() as u16);
            body.put_slice(text.as_bytes());
        }
        let mut packet = BytesMut::from(&[0x10][..]);
        put_length(&mut packet, body.len());
        packet.extend_from_slice(&body);
        packet
    }

    #[test]
    fn a_packet_that_arrives_byte_by_byte_is_read_once_complete() {
        let packet = connect_packet();
        let mut buffer = BytesMut::new();
        for (i, byte) in packet.iter().enumerate() {
            buffer.put_u8(*byte);
            let got = decode(&mut buffer, 1000).unwrap();
            assert_eq!(got.is_some(), i + 1 == packet.len());
            if let Some(Incoming::Connect(connect)) = got {
                assert_eq!((connect.level, connect.clean_session, connect.keep_alive_s), (4, true, 60));
                assert_eq!(connect.user_name.as_deref(), Some("dk&pk"));
                assert_eq!(connect.password.as_deref(), Some("secret"));
            }
        }
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_publish_comes_back_as_it_was_put() {
        let payload = vec![7u8; 70_000];
        let mut buffer = BytesMut::new();
        put_publish(&mut buffer, "/a/b", &payload, Some(9));
        let Some(Incoming::Publish(got)) = decode(&mut buffer, 100_000).unwrap() else { panic!("no publish") };
        assert_eq!((got.topic.as_str(), got.pkid, &got.payload[..]), ("/a/b", Some(9), &payload[..]));
    }

    /// Random bytes, and good packets with bytes changed, cut and glued: an error or a packet, never a panic, and every
    /// packet takes something off the front.
    #[test]
    fn no_bytes_make_the_reader_panic_or_stand_still() {
        let mut random = fastrand::Rng::with_seed(0x5eed);
        for round in 0..50_000 {
            let mut buffer = if round % 2 == 0 { connect_packet() } else { BytesMut::new() };
            put_publish(&mut buffer, "/sys/pk/dk/thing/measurepoint/post", b"{}", Some(1));
            buffer.put_slice(b"\x82\x08\x00\x01\x00\x03/a/\x01");
            match random.u8(..3) {
                0 => buffer.iter_mut().for_each(|byte| *byte = random.u8(..)),
                1 => (0..random.usize(1..6)).for_each(|_| {
                    let at = random.usize(..buffer.len());
                    buffer[at] = random.u8(..);
                }),
                _ => buffer.truncate(random.usize(..buffer.len())),
            }
            loop {
                let before = buffer.len();
                match decode(&mut buffer, 1000) {
                    Ok(Some(_)) => assert!(buffer.len() < before),
                    Ok(None) | Err(_) => break,
                }
            }
        }
    }

    /// Whatever length a PUBLISH has, it is read back whole, around each step of the length's encoding as well.
    #[test]
    fn a_publish_of_any_length_is_read_back() {
        let mut random = fastrand::Rng::with_seed(7);
        for edge in [0, 1, 100, 127, 128, 16_383, 16_384, 2_097_151] {
            let length = edge + random.usize(..3);
            let payload: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
            let mut buffer = BytesMut::new();
            put_publish(&mut buffer, "/t", &payload, None);
            let Ok(Some(Incoming::Publish(got))) = decode(&mut buffer, 4 << 20) else { panic!("{edge}") };
            assert_eq!((got.payload, buffer.len()), (Bytes::from(payload), 0));
        }
    }

    #[test]
    fn qos_2_oversize_and_nonsense_are_refused() {
        let mut qos2 = BytesMut::from(&[0x34, 5, 0, 1, b'a', 0, 1][..]);
        assert_eq!(decode(&mut qos2, 100), Err(CodecError::Qos2));
        let mut large = BytesMut::from(&[0x30, 0xff, 0xff, 0x7f][..]);
        assert!(matches!(decode(&mut large, 1000), Err(CodecError::TooLarge(_))));
        let mut endless = BytesMut::from(&[0x30, 0xff, 0xff, 0xff, 0xff, 0x01][..]);
        assert!(decode(&mut endless, usize::MAX).is_err());
        let mut short = BytesMut::from(&[0x82, 3, 0, 1, 0][..]);
        assert!(decode(&mut short, 100).is_err());
    }
}
