//! Files on their way to a device: a piece at a time, between scans and commands.

use crate::bench::{Bench, MS, S, bench_with, worst_gap};
use driver::testkit::{Behaviour, Script, ScriptedPlan};
use driver::{Phase, SessionError, Transfer, TransferError, TransferShape};
use enos_edge::model::{Upload, Value};
use enos_edge::south::{AskError, DeviceState};
use tokio::time::{Instant, sleep};

/// Three devices, read each second, that take files in pieces of 100 bytes.
fn with_files(prepare: impl FnOnce(&Script)) -> Bench {
    let mut plan = ScriptedPlan::polled(3, 3, S);
    plan.transfer = Some(TransferShape { most: 1 << 20, piece: 100, patience: S, resumes: true });
    bench_with(plan, Upload::Realtime, prepare)
}

/// Sends a file as an update does: at once again after each step.
async fn send(bench: &Bench, file: &mut Transfer, payload: &[u8]) -> Result<(), AskError> {
    while file.phase != Phase::Done {
        if file.bytes(100).is_none() {
            file.load(file.done, payload[file.done as usize..].to_vec());
        }
        bench.south.now().transfer(0, file, 10 * S).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_file_on_its_way_leaves_every_other_device_its_period() {
    // A busy line: three scans of 250 ms a second, and blocks of 200 ms.
    let bench = with_files(|script| {
        (0..3).for_each(|device| script.behave(device, Behaviour::Slow(250 * MS)));
        script.file_steps_take(200 * MS);
    });
    sleep(3 * S).await;
    let payload: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
    let (mut file, began) = (Transfer::new(1, 10_000), Instant::now());
    send(&bench, &mut file, &payload).await.unwrap();
    assert_eq!(bench.script.file(), payload);
    let took = began.elapsed();
    // A hundred blocks of 200 ms, and a scan after each of them at most.
    assert!(took <= 100 * (200 + 250) * MS, "the scans let the file go on: {took:?}");
    for device in 0..3 {
        let reads: Vec<Instant> = bench.script.reads(device).into_iter().filter(|at| *at >= began).collect();
        assert!(worst_gap(&reads) <= 1_500 * MS, "device {device} waited {:?}", worst_gap(&reads));
        assert_eq!(bench.device(device).state, DeviceState::Online);
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_goes_before_the_next_piece_of_a_file() {
    let bench = with_files(|script| script.file_steps_take(200 * MS));
    sleep(S / 2).await;
    let payload = vec![7; 5_000];
    let mut file = Transfer::new(1, 5_000);
    let sending = send(&bench, &mut file, &payload);
    let writing = async {
        sleep(1_050 * MS).await;
        let asked = Instant::now();
        bench.south.write("line", 2, &Value::Int(5), S).await.unwrap();
        asked.elapsed()
    };
    let (sent, waited) = tokio::join!(sending, writing);
    sent.unwrap();
    assert!(waited <= 200 * MS, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_a_step_is_told_and_the_file_comes_back() {
    let bench = with_files(|_| ());
    sleep(S).await;
    let payload = vec![7; 300];
    let mut file = Transfer::new(1, 300);
    file.load(0, payload.clone());
    let busy = TransferError::Busy("burning".to_owned());
    bench.script.file_step_fails(busy);
    let lines = bench.south.now();
    assert_eq!(lines.transfer(0, &mut file, S).await, Err(AskError::Later("burning".to_owned())));
    bench.script.file_step_fails(TransferError::Refused("exception 3".to_owned()));
    assert_eq!(lines.transfer(0, &mut file, S).await, Err(AskError::FileRefused("exception 3".to_owned())));
    assert_eq!(bench.script.connects().len(), 1, "neither ends the session");
    lines.transfer(0, &mut file, S).await.unwrap();
    assert_eq!(file.done, 100);
    bench.script.file_step_fails(TransferError::Session(SessionError::Timeout(S)));
    assert!(matches!(lines.transfer(0, &mut file, S).await, Err(AskError::Unconfirmed(_))));
    send(&bench, &mut file, &payload).await.unwrap();
    assert_eq!((bench.script.file(), bench.script.connects().len()), (payload, 2));
    bench.script.file_steps_take(3 * S);
    let mut file = Transfer::new(2, 300);
    file.load(0, vec![1; 300]);
    let told = lines.transfer(0, &mut file, S).await;
    assert!(matches!(told, Err(AskError::Unconfirmed(_))), "a driver that is late is cut off: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_file_for_a_connection_that_is_away_is_told_so_and_one_that_takes_none_refuses() {
    let bench = with_files(|script| script.refuse(true));
    sleep(2 * S).await;
    let mut file = Transfer::new(1, 100);
    file.load(0, vec![7; 100]);
    let told = bench.south.now().transfer(0, &mut file, S).await;
    assert!(matches!(told, Err(AskError::NotConnected(_))), "{told:?}");
    let none = bench_with(ScriptedPlan::polled(1, 3, S), Upload::Realtime, |_| ());
    sleep(S).await;
    let told = none.south.now().transfer(0, &mut file, S).await;
    assert!(matches!(told, Err(AskError::FileRefused(_))), "{told:?}");
}
