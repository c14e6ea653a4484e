//! Clocks that jump, clouds that fail, and how often the cloud is asked.

use super::*;

const START: i64 = 1_800_000_000_000;
const DAY_MS: i64 = 86_400_000;

fn facts(from: i64, to: i64) -> Facts {
    Facts {
        serial: "01".into(),
        subject: "CN=g".into(),
        issuer: "CN=ca".into(),
        not_before: from,
        not_after: to,
        key_type: "ECC 256".into(),
    }
}

/// A gateway in simulated time: what it asks when, on both clocks.
struct Story {
    schedule: Schedule,
    steady: Instant,
    begun: Instant,
    /// Wall clock at `begun`, changed by jumps.
    offset: i64,
    asked: Vec<(Duration, How)>,
    brings: Brought,
}

impl Story {
    fn new(wall: i64) -> Story {
        let begun = Instant::now();
        let schedule = Schedule::new(33, None, None, begun);
        Story { schedule, steady: begun, begun, offset: wall, asked: Vec::new(), brings: Brought::Nothing }
    }

    fn wall(&self) -> i64 {
        self.offset + (self.steady - self.begun).as_millis() as i64
    }

    /// Lets time pass; every request ends as `brings` says, and what is issued is never promoted.
    fn pass(&mut self, time: Duration, seen: Seen<'_>) {
        let end = self.steady + time;
        while self.steady < end {
            match self.schedule.look(Reading { wall: self.wall(), steady: self.steady }, seen) {
                Verdict::Ask(how) => {
                    self.asked.push((self.steady - self.begun, how));
                    self.schedule.brought(self.brings, seen, self.steady, 0.5);
                }
                Verdict::Wait(wait) => {
                    assert!(!wait.is_zero(), "a look without a wait is a busy loop");
                    self.steady = end.min(self.steady + wait);
                }
            }
        }
    }

    fn most_in_an_hour(&self) -> usize {
        let within = |from: Duration| self.asked.iter().filter(|(at, _)| *at >= from && *at < from + HOUR).count();
        self.asked.iter().map(|(at, _)| within(*at)).max().unwrap_or(0)
    }
}

fn current(facts: &Facts) -> Seen<'_> {
    Seen { current: Some(facts), ..Seen::default() }
}

#[test]
fn it_is_renewed_when_a_third_of_its_life_is_left_and_applied_for_after_its_end() {
    let mine = facts(START, START + 90 * DAY_MS);
    let mut story = Story::new(START + DAY_MS);
    story.pass(Duration::from_secs(59 * 86_400), current(&mine));
    assert_eq!(story.asked, []);
    story.pass(Duration::from_secs(86_400), current(&mine));
    let (at, how) = story.asked[0];
    assert_eq!(how, How::Renew);
    let left = mine.not_after - (START + DAY_MS + at.as_millis() as i64);
    assert!(left <= 30 * DAY_MS && left > 29 * DAY_MS, "{left}");
    story.pass(Duration::from_secs(31 * 86_400), current(&mine));
    assert_eq!(story.asked.last().unwrap().1, How::Apply, "a renewal needs one that still counts");
    assert_eq!(story.most_in_an_hour(), 1, "whoever has one is in no hurry");
}

#[test]
fn a_clock_that_jumps_ten_years_ahead_makes_no_storm() {
    let mine = facts(START, START + 730 * DAY_MS);
    for brings in [Brought::Nothing, Brought::Unusable, Brought::Certificate] {
        let mut story = Story::new(START + 10 * DAY_MS);
        story.brings = brings;
        story.pass(HOUR, current(&mine));
        assert_eq!(story.asked, []);
        story.offset += 3652 * DAY_MS;
        story.pass(CONFIRM - LOOK, current(&mine));
        assert_eq!(story.asked, [], "the first look decides nothing");
        story.pass(DAY, current(&mine));
        assert_eq!(story.most_in_an_hour(), 1, "{brings:?}");
        let asked = story.asked.len();
        assert!((4..=24).contains(&asked), "{asked} with {brings:?}");
        // It is set right again: nothing is due any more.
        story.offset -= 3652 * DAY_MS;
        story.pass(DAY, current(&mine));
        assert_eq!(story.asked.len(), asked);
    }
}

#[test]
fn a_clock_that_swings_to_and_fro_asks_for_nothing() {
    let mine = facts(START, START + 730 * DAY_MS);
    let mut story = Story::new(START + 10 * DAY_MS);
    for round in 0..500 {
        story.offset += if round % 2 == 0 { 3652 * DAY_MS } else { -3652 * DAY_MS };
        story.pass(CONFIRM - LOOK, current(&mine));
    }
    assert_eq!(story.asked, []);
}

#[test]
fn a_clock_that_says_1970_asks_for_nothing_until_it_is_set() {
    let mine = facts(START, START + 90 * DAY_MS);
    let mut story = Story::new(5000);
    story.pass(Duration::from_secs(30 * 86_400), current(&mine));
    assert_eq!(story.asked, []);
    story.offset = START + 80 * DAY_MS - 30 * DAY_MS;
    story.pass(CONFIRM + 2 * LOOK, current(&mine));
    assert_eq!(story.asked.len(), 1, "set, and due: after the second look");
}

#[test]
fn without_a_certificate_the_clock_does_not_matter_and_the_waits_grow_to_an_hour() {
    let mut story = Story::new(5000);
    story.pass(DAY, Seen::default());
    assert_eq!(story.asked[0], (Duration::ZERO, How::Apply));
    let gaps: Vec<u64> = story.asked.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs()).collect();
    assert_eq!(gaps[..4], [66, 132, 264, 528]);
    assert!(gaps[7..].iter().all(|gap| (3600..4400).contains(gap)), "{gaps:?}");
}

#[test]
fn unusable_answers_are_asked_for_less_and_less() {
    let mine = facts(START, START + 730 * DAY_MS);
    let mut story = Story::new(START + 700 * DAY_MS);
    story.brings = Brought::Unusable;
    story.pass(Duration::from_secs(10 * 86_400), current(&mine));
    assert!(story.asked.len() < 16, "{:?}", story.asked);
}

#[test]
fn a_candidate_that_waits_for_its_try_is_not_asked_for_again() {
    let (mine, next) = (facts(START, START + 90 * DAY_MS), facts(START + 80 * DAY_MS, START + 170 * DAY_MS));
    let mut story = Story::new(START + 80 * DAY_MS);
    let seen = Seen { current: Some(&mine), candidate: Some(&next), ..Seen::default() };
    story.pass(Duration::from_secs(20 * 86_400), seen);
    assert_eq!(story.asked, []);
}

#[test]
fn a_certificate_that_the_cloud_refuses_is_replaced_in_spite_of_its_dates() {
    let mine = facts(START, START + 730 * DAY_MS);
    let mut story = Story::new(START + DAY_MS);
    story.brings = Brought::Certificate;
    story.pass(DAY, Seen { current: Some(&mine), blamed: true, hopeless: true, ..Seen::default() });
    assert_eq!(story.asked[0], (Duration::ZERO, How::Apply));
    assert_eq!(story.most_in_an_hour(), 1);
}

#[test]
fn a_daemon_that_starts_again_and_again_does_not_ask_each_time() {
    let begun = Instant::now();
    let mut schedule = Schedule::new(33, Some(Duration::from_secs(5)), None, begun);
    let verdict = schedule.look(Reading { wall: START, steady: begun }, Seen::default());
    assert_eq!(verdict, Verdict::Wait(Duration::from_secs(55)));
}

#[test]
fn restarts_ask_no_more_often_than_a_daemon_that_runs() {
    let mine = facts(START - 80 * DAY_MS, START + 10 * DAY_MS);
    for (seen, most) in [(Seen::default(), 30), (current(&mine), 25)] {
        let mut story = Story::new(START);
        // A crash every 15 minutes for a day, and in the middle of every request.
        for _ in 0..24 * 4 {
            story.pass(Duration::from_secs(900), seen);
            let kept = story.schedule.pace(story.steady);
            story.schedule = Schedule::new(33, None, Some((kept, Duration::ZERO)), story.steady);
        }
        assert!((3..=most).contains(&story.asked.len()), "{:?}", story.asked);
    }
}

#[test]
fn a_candidate_nobody_takes_and_nobody_blames_does_not_hold_back_another_for_ever() {
    let mine = facts(START, START + 90 * DAY_MS);
    let mut story = Story::new(START + DAY_MS);
    let waits = Seen { candidate: Some(&mine), ..Seen::default() };
    story.pass(Duration::from_secs(5 * 86_400), waits);
    assert_eq!(story.asked, []);
    story.pass(HOUR, Seen { stuck: true, hopeless: true, ..waits });
    assert_eq!(story.asked[0].1, How::Apply);
}

#[test]
fn a_life_of_seconds_is_renewed_in_time() {
    let mine = facts(START, START + 12_000);
    let mut story = Story::new(START);
    story.pass(Duration::from_secs(11), current(&mine));
    let (at, how) = story.asked[0];
    assert!((8.0..9.0).contains(&at.as_secs_f64()) && how == How::Renew, "{at:?}");
}

#[test]
fn a_life_without_end_or_backwards_is_no_panic() {
    for (from, to) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (0, 0), (START, i64::MAX)] {
        let odd = facts(from, to);
        let mut story = Story::new(START);
        story.pass(Duration::from_secs(600), current(&odd));
        assert!(story.asked.len() < 700);
    }
}
