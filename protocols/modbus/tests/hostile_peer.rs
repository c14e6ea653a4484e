//! Against a peer that lies: whatever bytes come, no wrong value is good and nothing hangs.

mod site;

use driver::{Datum, SessionError, Value};
use site::{registers, tcp_plan};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

/// Bytes the peer sends for a request of Modbus TCP, in pieces.
type Script = Arc<dyn Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync>;

async fn peer(script: Script) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let script = Arc::clone(&script);
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let mut request = [0u8; 12];
                while stream.read_exact(&mut request).await.is_ok() {
                    for piece in script(&request) {
                        if stream.write_all(&piece).await.is_err() {
                            return;
                        }
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
    });
    port
}

/// The honest answer to a read of holding registers: each holds its own address.
fn honest(request: &[u8]) -> Vec<u8> {
    let word = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
    let (first, count) = (word(8), word(10));
    let mut frame = request[..4].to_vec();
    frame.extend_from_slice(&(3 + count * 2).to_be_bytes());
    frame.extend_from_slice(&[request[6], request[7], u8::try_from(count * 2).expect("at most 125")]);
    for address in first..first + count {
        frame.extend_from_slice(&address.to_be_bytes());
    }
    frame
}

/// One scan of four registers; good values are checked against their address.
async fn outcome(script: Script) -> Result<usize, SessionError> {
    let port = peer(script).await;
    let plan = tcp_plan("modbus-tcp", port, &[("timeout_ms", "150")], &[("1", registers(600, 4))]);
    let (samples, result) = site::scan(&*plan).await;
    let mut good = 0;
    for sample in samples {
        if let Datum::Good(value) = sample.datum {
            assert_eq!(value, Value::Int(i64::from(600 + sample.point)), "a wrong value is good");
            good += 1;
        }
    }
    result.map(|()| good)
}

async fn changed(change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> Result<usize, SessionError> {
    let script = move |request: &[u8]| {
        let mut frame = honest(request);
        change(&mut frame);
        vec![frame]
    };
    outcome(Arc::new(script)).await
}

#[tokio::test]
async fn an_answer_split_anywhere_is_put_together() {
    for cut in 0..17 {
        let script = move |request: &[u8]| {
            let frame = honest(request);
            vec![frame[..cut].to_vec(), frame[cut..].to_vec()]
        };
        assert_eq!(outcome(Arc::new(script)).await, Ok(4), "cut at {cut}");
    }
    let script = |request: &[u8]| honest(request).into_iter().map(|byte| vec![byte]).collect();
    assert_eq!(outcome(Arc::new(script)).await, Ok(4), "a byte at a time");
}

#[tokio::test]
async fn lying_headers_end_the_session_at_once() {
    for length in [0u16, 1, 2, 255, 65_535] {
        let started = Instant::now();
        let result = changed(move |frame| frame[4..6].copy_from_slice(&length.to_be_bytes())).await;
        assert!(matches!(result, Err(SessionError::Broken(_))), "length {length}: {result:?}");
        assert!(started.elapsed() < Duration::from_millis(140), "length {length} makes us wait");
    }
    for (what, at, value) in [("protocol", 2, 1u8), ("unit", 6, 2), ("function", 7, 4), ("byte count", 8, 6)] {
        let result = changed(move |frame| frame[at] = value).await;
        assert!(matches!(result, Err(SessionError::Broken(_))), "{what}: {result:?}");
    }
    let result = changed(|frame| frame[0] = frame[0].wrapping_add(7)).await;
    assert!(matches!(result, Err(SessionError::Broken(_))), "transaction: {result:?}");
}

#[tokio::test]
async fn a_short_answer_with_a_fitting_header_is_no_answer() {
    let result = changed(|frame| {
        frame.truncate(13);
        frame[5] = 7;
        frame[8] = 4;
    })
    .await;
    assert!(matches!(result, Err(SessionError::Broken(_))), "{result:?}");
    let result = changed(|frame| frame.truncate(13)).await;
    assert!(matches!(result, Err(SessionError::Timeout(_))), "{result:?}");
}

#[tokio::test]
async fn doubled_answers_are_passed_over() {
    let script = |request: &[u8]| vec![honest(request), honest(request)];
    let port = peer(Arc::new(script)).await;
    let plan = tcp_plan("modbus-tcp", port, &[], &[("1", registers(600, 400))]);
    let mut session = plan.connect(Arc::new(driver::Silent)).await.expect("connects");
    for _ in 0..20 {
        let mut samples = Vec::new();
        session.read(0, &mut samples).await.expect("reads");
        assert_eq!(samples.len(), 400);
        for sample in samples {
            assert_eq!(sample.datum, Datum::Good(Value::Int(i64::from(600 + sample.point))));
        }
    }
}

#[tokio::test]
async fn any_exception_code_is_survived() {
    for code in 0..=255u8 {
        let script =
            move |request: &[u8]| vec![vec![request[0], request[1], 0, 0, 0, 3, request[6], request[7] | 0x80, code]];
        let result = outcome(Arc::new(script)).await;
        match code {
            0 => assert!(matches!(result, Err(SessionError::Broken(_))), "{result:?}"),
            _ => assert_eq!(result, Ok(0), "exception {code}"),
        }
    }
}

#[tokio::test]
async fn random_bytes_never_make_a_wrong_value() {
    let seed = Arc::new(AtomicU64::new(0x9E37_79B9_7F4A_7C15));
    for _ in 0..300 {
        let seed = Arc::clone(&seed);
        let script = move |request: &[u8]| {
            let mut frame = honest(request);
            let mut random = seed.load(Ordering::Relaxed);
            for _ in 0..3 {
                // xorshift: repeatable noise without another crate.
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // The header and the counts; the data itself has no check in Modbus TCP.
                let at = usize::try_from(random % 9).expect("below 9");
                frame[at] = random.to_le_bytes()[4];
            }
            seed.store(random, Ordering::Relaxed);
            vec![frame]
        };
        let _ = outcome(Arc::new(script)).await;
    }
}
