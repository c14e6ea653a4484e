//! PURE. Bodies of several parts (RFC 7578), as the integration interface wants them.

/// One part of a body.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    pub name: &'a str,
    pub file_name: Option<&'a str>,
    pub content_type: &'a str,
    pub content: &'a [u8],
}

/// The body and its content type. `seed` makes the boundary; it is changed until no part holds it.
pub(super) fn body(parts: &[Part<'_>], seed: u64) -> (Vec<u8>, String) {
    let boundary = boundary(parts, seed);
    let mut body = Vec::with_capacity(parts.iter().map(|part| part.content.len() + 256).sum::<usize>() + 64);
    for part in parts {
        let mut head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"", quoted(part.name));
        if let Some(file_name) = part.file_name {
            head.push_str(&format!("; filename=\"{}\"", quoted(file_name)));
        }
        head.push_str(&format!("\r\nContent-Type: {}\r\n\r\n", part.content_type));
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(part.content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (body, format!("multipart/form-data; boundary={boundary}"))
}

fn boundary(parts: &[Part<'_>], mut seed: u64) -> String {
    loop {
        let boundary = format!("enos-edge-{seed:016x}");
        let taken = |part: &Part<'_>| part.content.windows(boundary.len()).any(|window| window == boundary.as_bytes());
        if !parts.iter().any(taken) {
            return boundary;
        }
        seed = seed.wrapping_add(1);
    }
}

/// RFC 7578 4.2 leaves it to browsers' custom: these three are escaped, everything else stays UTF-8.
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_what_the_standard_says() {
        let part = Part { name: "enos-message", file_name: None, content_type: "application/json", content: b"{}" };
        let (body, content_type) = body(&[part], 1);
        assert_eq!(content_type, "multipart/form-data; boundary=enos-edge-0000000000000001");
        assert_eq!(
            String::from_utf8(body).unwrap(),
            "--enos-edge-0000000000000001\r\nContent-Disposition: form-data; name=\"enos-message\"\r\n\
             Content-Type: application/json\r\n\r\n{}\r\n--enos-edge-0000000000000001--\r\n"
        );
    }

    #[test]
    fn content_never_ends_a_part_early() {
        let content = b"x enos-edge-0000000000000001 y";
        let part = Part { name: "a\"b\r\n", file_name: Some("f"), content_type: "text/plain", content };
        let (body, content_type) = body(&[part], 1);
        assert!(content_type.ends_with("0002"), "{content_type}");
        let text = String::from_utf8(body).unwrap();
        assert!(text.contains("name=\"a%22b%0D%0A\"; filename=\"f\""), "{text}");
    }
}
