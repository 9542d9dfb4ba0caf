//! What is in an event, as a line of JSON.

use std::fmt::{self, Write};

use super::dice::{Dice, Purpose};
use super::{Kind, NexmarkOptions};

/// Of each fifty events the first is a person, the next three are auctions, the others bids.
const PEOPLE: u64 = 1;
const AUCTIONS: u64 = 3;
const ROUND: u64 = 50;

/// The least person and auction, and the least category.
const FIRST_ID: u64 = 1000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;

/// People and auctions that can be named before they exist.
const AHEAD: u64 = 10;
/// The newest people, and the newest auctions, that are still around.
const ACTIVE_PEOPLE: u64 = 1000;
const OPEN_AUCTIONS: u64 = 100;
/// The first of each hundred is hot: one auction in two bids, one seller or bidder in four.
const HOT_EVERY: u64 = 100;
const HOT_AUCTION: u64 = 2;
const HOT_PERSON: u64 = 4;

const CHANNELS: u64 = 10_000;
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

const FIRST_NAMES: [&str; 11] = [
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter",
];
const LAST_NAMES: [&str; 9] = [
    "Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris",
];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];

/// Writes events.
pub(super) struct Events {
    hot_urls: [String; 4],
    urls: Vec<String>,
}

impl Events {
    pub fn new(options: &NexmarkOptions) -> Events {
        let seed = options.seed;
        let hot = |i| url(&mut Dice::new(seed, Purpose::HotUrl, i));
        let channels = match options.kind {
            Kind::Auctions => CHANNELS,
            Kind::Clicks { .. } => 0,
        };
        Events {
            hot_urls: [0, 1, 2, 3].map(hot),
            urls: (0..channels).map(|i| channel_url(seed, i)).collect(),
        }
    }

    /// Adds the line of the `n`th event.
    pub fn write(&self, options: &NexmarkOptions, n: u64, line: &mut String) {
        let dice = &mut Dice::new(options.seed, Purpose::Event, n);
        let event = Event { options, n };
        let written = match (options.kind, n % ROUND) {
            (Kind::Clicks { users }, _) => event.click(users, dice, line),
            (Kind::Auctions, at) if at < PEOPLE => event.person(dice, line),
            (Kind::Auctions, at) if at < PEOPLE + AUCTIONS => event.auction(dice, line),
            (Kind::Auctions, _) => event.bid(self, dice, line),
        };
        written.expect("text takes whatever is written to it");
    }
}

struct Event<'o> {
    options: &'o NexmarkOptions,
    n: u64,
}

impl Event<'_> {
    fn time(&self) -> i64 {
        self.options.time(self.n)
    }

    fn click(&self, users: u64, dice: &mut Dice, line: &mut String) -> fmt::Result {
        let among = match dice.below(2) {
            0 => (users / 100).max(1),
            _ => users,
        };
        let (user, page, time) = (dice.below(among), dice.below(1000), self.time());
        writeln!(
            line,
            r#"{{"user_id":"u{user:06}","page":"/p/{page}","click_time":{time}}}"#
        )
    }

    fn person(&self, dice: &mut Dice, line: &mut String) -> fmt::Result {
        let id = self.newest_person() + FIRST_ID;
        let name = format!("{} {}", dice.one_of(&FIRST_NAMES), dice.one_of(&LAST_NAMES));
        let email = format!("{}@{}.com", word(dice, 7, '_'), word(dice, 5, '_'));
        let card = [(); 4].map(|()| format!("{:04}", dice.below(10_000)));
        let card = card.join(" ");
        let (city, state) = (dice.one_of(&CITIES), dice.one_of(&STATES));
        write!(
            line,
            r#"{{"event_type":0,"person":{{"id":{id},"name":"{name}","emailAddress":"{email}","#
        )?;
        write!(
            line,
            r#""creditCard":"{card}","city":"{city}","state":"{state}","dateTime":{}"#,
            self.time()
        )?;
        let used = 8 + name.len() + email.len() + card.len() + city.len() + state.len();
        end(dice, 200, used, line)
    }

    fn auction(&self, dice: &mut Dice, line: &mut String) -> fmt::Result {
        let (id, time) = (self.newest_auction() + FIRST_ID, self.time());
        let (item, description) = (word(dice, 20, ' '), word(dice, 100, ' '));
        let initial = price(dice);
        let reserve = initial + price(dice);
        // An auction is open for about as long as it is one of the newest.
        let closing = self.n + OPEN_AUCTIONS * ROUND / AUCTIONS;
        let open = (self.options.time(closing) - time).unsigned_abs();
        let expires = time.saturating_add_unsigned(1 + dice.below((open * 2).max(1)));
        let seller = FIRST_ID
            + match dice.below(HOT_PERSON) {
                0 => self.some_person(dice),
                _ => self.newest_person() / HOT_EVERY * HOT_EVERY,
            };
        let category = FIRST_CATEGORY + dice.below(CATEGORIES);
        write!(
            line,
            r#"{{"event_type":1,"auction":{{"id":{id},"itemName":"{item}","#
        )?;
        write!(
            line,
            r#""description":"{description}","initialBid":{initial},"reserve":{reserve},"#
        )?;
        write!(
            line,
            r#""dateTime":{time},"expires":{expires},"seller":{seller},"category":{category}"#
        )?;
        end(dice, 500, 8 + item.len() + description.len() + 40, line)
    }

    fn bid(&self, events: &Events, dice: &mut Dice, line: &mut String) -> fmt::Result {
        let auction = FIRST_ID
            + match dice.below(HOT_AUCTION) {
                0 => self.some_auction(dice),
                _ => self.newest_auction() / HOT_EVERY * HOT_EVERY,
            };
        let bidder = FIRST_ID
            + match dice.below(HOT_PERSON) {
                0 => self.some_person(dice),
                _ => self.newest_person() / HOT_EVERY * HOT_EVERY + 1,
            };
        let price = price(dice);
        write!(
            line,
            r#"{{"event_type":2,"bid":{{"auction":{auction},"bidder":{bidder},"price":{price},"#
        )?;
        let is_hot = dice.below(2) > 0;
        let channel = dice.below(if is_hot { 4 } else { CHANNELS });
        let at = usize::try_from(channel).expect("it is below the number of channels");
        if is_hot {
            let (name, url) = (HOT_CHANNELS[at], &events.hot_urls[at]);
            write!(line, r#""channel":"{name}","url":"{url}""#)?;
        } else {
            let url = &events.urls[at];
            write!(line, r#""channel":"channel-{channel}","url":"{url}""#)?;
        }
        write!(line, r#","dateTime":{}"#, self.time())?;
        end(dice, 100, 32, line)
    }

    /// The newest person there is, counted from 0; the event's own if it is one.
    fn newest_person(&self) -> u64 {
        self.n / ROUND * PEOPLE
    }

    /// The newest auction there is, counted from 0; the event's own if it is one.
    fn newest_auction(&self) -> u64 {
        let before = self.n / ROUND * AUCTIONS;
        match self.n % ROUND {
            at if at < PEOPLE => before.saturating_sub(1),
            at => before + (at - PEOPLE).min(AUCTIONS - 1),
        }
    }

    fn some_person(&self, dice: &mut Dice) -> u64 {
        let people = self.newest_person() + 1;
        let active = people.min(ACTIVE_PEOPLE);
        people - active + dice.below(active + AHEAD)
    }

    fn some_auction(&self, dice: &mut Dice) -> u64 {
        let newest = self.newest_auction();
        let oldest = newest.saturating_sub(OPEN_AUCTIONS);
        oldest + dice.below(newest - oldest + 1 + AHEAD)
    }
}

/// Ends an event with letters that nobody reads, so that events are `average` bytes large.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a fifth of a small number, rounded"
)]
fn end(dice: &mut Dice, average: usize, used: usize, line: &mut String) -> fmt::Result {
    line.push_str(r#","extra":""#);
    if let Some(missing) = average.checked_sub(used) {
        let spread = (missing as f64 * 0.2).round() as u64;
        let least = missing as u64 - spread;
        let len = least
            + if spread > 0 {
                dice.below(2 * spread)
            } else {
                0
            };
        let mut rest = 0;
        for place in 0..len {
            // Twelve letters fit into 64 bits.
            if place % 12 == 0 {
                rest = dice.bits();
            }
            line.push(Dice::letter(rest).into());
            rest /= 26;
        }
    }
    line.write_str("\"}}\n")
}

/// At least three letters, one in thirteen of them `special`.
fn word(dice: &mut Dice, max: u64, special: char) -> String {
    let len = 3 + dice.below(max - 3);
    let letter = |_| match dice.below(13) {
        0 => special,
        _ => Dice::letter(dice.below(26)).into(),
    };
    let word: String = (0..len).map(letter).collect();
    word.trim().to_owned()
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, and at most 10^8"
)]
fn price(dice: &mut Dice) -> u64 {
    (10_f64.powf(dice.fraction() * 6.0) * 100.0).round() as u64
}

fn url(dice: &mut Dice) -> String {
    let [a, b, c] = [(); 3].map(|()| word(dice, 5, '_'));
    format!("https://www.nexmark.com/{a}/{b}/{c}/item.htm?query=1")
}

/// The page of a channel; nine in ten name the channel.
fn channel_url(seed: u64, channel: u64) -> String {
    let dice = &mut Dice::new(seed, Purpose::Url, channel);
    let url = url(dice);
    if dice.below(10) == 0 {
        return url;
    }
    let number = u32::try_from(channel).expect("there are few channels");
    let id = number.reverse_bits() & 0x7fff_ffff;
    format!("{url}&channel_id={id}")
}
