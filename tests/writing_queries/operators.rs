//! Every operator once: docs/writing-queries.md quotes these lines.

use waterclock::prelude::*;

use super::sales::{Amount, Sale, Shop};

/// Words of what sold for ten or more, on every channel.
pub fn words(flow: Flow) -> Table<(Text, Window), u64> {
    let dear = flow.stream::<Sale>().filter(|sale| sale.amount >= 10);
    let refunds = flow.stream::<Sale>().filter(|sale| sale.amount < 0);
    dear.union(refunds)
        .map(|sale| sale.item.clone())
        .flat_map(|item| item.split(' ').map(Text::from).collect::<Vec<_>>())
        .key_by(Text::clone)
        .window(tumbling(hours(1)))
        .count()
}

/// What sold for ten or more, for a day.
pub fn dear(flow: Flow) -> Stream<Text> {
    let dear = flow.stream::<Sale>().filter(|sale| sale.amount >= 10);
    dear.map(|sale| sale.item.clone()).retain(days(1))
}

/// What was sold for less than nothing, of which only the amount is read.
pub fn refunded(flow: Flow) -> Stream<i64> {
    flow.part::<Amount>()
        .filter(|sale| sale.amount < 0)
        .map(|sale| sale.amount)
}

fn by_shop(flow: Flow) -> Windowed<Text, Sale> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .window(tumbling(hours(1)))
}

/// The last day, each hour at half past; a sale may come two minutes after its end.
pub fn days_sales(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .window(
            sliding(days(1))
                .every(hours(1))
                .offset(minutes(30))
                .allowed_lateness(minutes(2))
                .keep(days(30)),
        )
        .count()
}

pub fn takings(flow: Flow) -> Table<(Text, Window), i128> {
    by_shop(flow).sum(|sale| sale.amount)
}

pub fn mean(flow: Flow) -> Table<(Text, Window), Float> {
    by_shop(flow).avg(|sale| sale.amount)
}

pub fn least(flow: Flow) -> Table<(Text, Window), i64> {
    by_shop(flow).min(|sale| sale.amount)
}

pub fn greatest(flow: Flow) -> Table<(Text, Window), i64> {
    by_shop(flow).max(|sale| sale.amount)
}

pub fn items(flow: Flow) -> Table<(Text, Window), u64> {
    by_shop(flow).count_distinct(|sale| sale.item.clone())
}

/// The two items sold most in each shop and hour.
pub fn best(flow: Flow) -> Table<(Text, Window), Vec<(Text, u64)>> {
    by_shop(flow).count_by(|sale| sale.item.clone()).top(2)
}

/// The last sale of an hour, as an aggregate of one's own.
pub struct Last;

impl Aggregate<Sale> for Last {
    const NAME: &'static str = "last";
    type Acc = (Timestamp, Text);
    type Out = Text;

    fn one(&self, sale: &Sale) -> Self::Acc {
        (sale.at, sale.item.clone())
    }
    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc) {
        if *acc < *other {
            acc.clone_from(other);
        }
    }
    fn finish(&self, acc: &Self::Acc) -> Text {
        acc.1.clone()
    }
}

pub fn last(flow: Flow) -> Table<(Text, Window), Text> {
    by_shop(flow).aggregate(Last)
}

/// Sales of the last thirty days with the city of their shop, now.
pub fn with_city(flow: Flow) -> Table<Text, (Sale, Shop)> {
    let shops = flow.table::<Shop>();
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .keep(days(30))
        .join(shops)
}

/// Sales by the city that the shop was in when it sold.
pub fn by_city(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .as_of::<Shop>(hours(1))
        .key_by(|(_sale, shop)| shop.as_ref().map_or("?".into(), |s| s.city.clone()))
        .window(tumbling(hours(1)))
        .count()
}

/// In how many shops of a city business is good.
pub fn good_cities(flow: Flow) -> Table<Text, u64> {
    with_city(flow)
        .filter(|_shop, (sale, _)| sale.amount >= 10)
        .map(|_shop, (_, shop)| (shop.city.clone(), shop.name.clone()))
        .count_rows()
}

/// What each shop ever took, and what it is: also shops that never sold, or that are unknown.
pub fn ever(flow: Flow) -> Table<Text, (Option<i128>, Option<Shop>)> {
    let shops = flow.table::<Shop>();
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .forever()
        .sum(|sale| sale.amount)
        .full_join(shops)
}

/// What the shops of each city ever took.
pub fn city_takings(flow: Flow) -> Table<Text, i128> {
    ever(flow)
        .map(|_shop, (sum, shop)| {
            let city = shop.as_ref().map_or("?".into(), |shop| shop.city.clone());
            (city, sum.unwrap_or(0))
        })
        .sum(|_city, sum| *sum)
}

/// Takings in thousands.
pub fn thousands(flow: Flow) -> Table<(Text, Window), i128> {
    takings(flow).map_values(|_key, sum| sum / 1000)
}

/// What differential dataflow can do, any table can: shops that sold anything at all.
pub fn sellers(flow: Flow) -> Table<Text, ()> {
    let sold = takings(flow.clone()).collection();
    let sellers = sold.map(|((shop, _window), _sum)| (shop, ())).distinct();
    Table::from_collection(flow, sellers)
}
