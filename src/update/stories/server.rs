//! Files by HTTP, with ranges.

use super::*;

/// Serves files by HTTP with ranges; each answer breaks off after `cut` bytes of its body.
pub(super) async fn server(folder: PathBuf, cut: Option<usize>) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&sent);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (folder, sent) = (folder.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    request.push(byte);
                }
                let request = String::from_utf8_lossy(&request).to_lowercase();
                let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
                let Ok(bytes) = std::fs::read(folder.join(name)) else {
                    let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
                    return;
                };
                let from = request.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next()?.parse().ok());
                let from: usize = from.unwrap_or(0);
                if from >= bytes.len() {
                    let head = format!(
                        "HTTP/1.1 416 X\r\ncontent-length: 0\r\ncontent-range: bytes */{}\r\n\r\n",
                        bytes.len()
                    );
                    let _ = stream.write_all(head.as_bytes()).await;
                    return;
                }
                let body = &bytes[from..];
                let head = match from {
                    0 => format!("HTTP/1.1 200 OK\r\netag: \"e\"\r\ncontent-length: {}\r\n\r\n", body.len()),
                    _ => format!(
                        "HTTP/1.1 206 Partial Content\r\netag: \"e\"\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{}/{}\r\n\r\n",
                        body.len(),
                        bytes.len() - 1,
                        bytes.len()
                    ),
                };
                let body = &body[..body.len().min(cut.unwrap_or(usize::MAX))];
                sent.fetch_add(body.len(), Ordering::SeqCst);
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(body).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (base, sent)
}
