//! Servers from which the file never comes: each attempt looks as if it got on, and none does.

use super::*;

/// What a server answers each time, whatever is asked for.
struct Barren {
    head: String,
    body: Vec<u8>,
}

/// Sends this to all who come, and counts them.
async fn barren(answer: Barren) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/2.0.0.tar.gz", listener.local_addr().unwrap());
    let asked = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                request.push(byte);
            }
            let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", answer.head);
            // Who hangs up in the middle is none of the server's.
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&answer.body).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, asked)
}

/// How the job ended, how often it asked, and after which time.
async fn ended(bench: &Bench, answer: Barren) -> (Json, usize, Duration) {
    let begun = tokio::time::Instant::now();
    let (address, asked) = barren(answer).await;
    let gateway = bench.start();
    let offer = bench.offer("2.0.0", "gw", &address);
    assert_eq!(gateway.updates.offered(offer, true).await.code, 200);
    loop {
        let job = gateway.updates.status()["job"].clone();
        if job["end"] == true {
            return (job, asked.load(Ordering::SeqCst), begun.elapsed());
        }
        assert!(begun.elapsed() < Duration::from_secs(20 * 3600), "{job} after {asked:?} attempts");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_download_that_breaks_at_the_same_place_for_ever_ends_after_twelve_attempts() {
    let bench = Bench::new();
    let whole = std::fs::read(bench.file("2.0.0")).unwrap();
    // No ranges, no ETag: each attempt begins at the first byte.
    let head = format!("content-length: {}\r\n", whole.len());
    let (job, asked, took) = ended(&bench, Barren { head, body: whole[..whole.len() / 2].to_vec() }).await;
    assert_eq!((&job["state"], &job["step"]), (&"failed".into(), &(-2).into()), "{job}");
    assert!(job["why"].as_str().unwrap().starts_with("download: "), "{job}");
    assert_eq!(asked, 13, "the first one brought something");
    assert!(took < Duration::from_secs(3600), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_larger_than_the_cloud_says_ends_after_three_attempts() {
    let bench = Bench::new();
    let mut larger = std::fs::read(bench.file("2.0.0")).unwrap();
    larger.extend([0; 1000]);
    let head = format!("content-length: {}\r\n", larger.len());
    // It tells its length, or it is found out on the way: then the first attempt may have brought something.
    for (head, most, words) in [(head, 3, "are allowed"), (String::new(), 4, "is larger than")] {
        let (job, asked, took) = ended(&bench, Barren { head, body: larger.clone() }).await;
        assert_eq!((&job["state"], &job["step"]), (&"failed".into(), &(-2).into()), "{job}");
        assert!(job["why"].as_str().unwrap().contains(words), "{job}");
        assert!((3..=most).contains(&asked), "{asked}: {job}");
        assert!(took < Duration::from_secs(60), "{took:?}");
    }
}
