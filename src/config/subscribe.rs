//! `subscribe:` of a destination: messages of a broker that become readings of local points.

use crate::diagnostic::Diagnostic;
use crate::model::TopicFilter;
use crate::yaml::fields::{Faults, Fields, misfit};
use driver::Text;

/// One filter and what its messages mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub filter: TopicFilter,
    pub device: Pick,
    pub point: Pick,
    /// JSON pointer of the value; `None` is the whole payload.
    pub value: Option<String>,
    /// JSON pointer of the time in milliseconds since 1970; `None` is the time of arrival.
    pub time: Option<String>,
}

/// A name: fixed, or what a wildcard stood for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    Fixed(String),
    /// Counted from 0.
    Wildcard(usize),
}

pub(super) const KEYS: &[&str] = &["filter", "device", "point", "value", "time"];
/// Each message is held against all of them.
const MOST: usize = 200;

/// `shape`: the levels of the topics the destination publishes to.
pub(super) fn read(
    fields: &Fields<'_, '_>,
    shape: Option<&[Option<String>]>,
    faults: &mut Faults,
) -> Vec<Subscription> {
    let nodes = fields.list("subscribe", faults);
    if nodes.len() > MOST {
        let problem = format!("{} subscriptions are more than {MOST}", nodes.len());
        faults.push(Diagnostic::error(fields.place.clone(), problem).help("use the wildcards + and #"));
    }
    let open = |node, faults: &mut Faults| {
        let fields = Fields::open(fields.file, node, "subscription", KEYS, faults)?;
        subscription(&fields, shape, faults)
    };
    nodes.iter().filter_map(|node| open(node, faults)).collect()
}

fn subscription(
    fields: &Fields<'_, '_>,
    shape: Option<&[Option<String>]>,
    faults: &mut Faults,
) -> Option<Subscription> {
    let filter = fields.required("filter", faults).and_then(|text| filter(&text, shape, faults));
    let wildcards = filter.as_ref().map_or(usize::MAX, TopicFilter::wildcards);
    let device = fields.required("device", faults).and_then(|text| pick("device", text, wildcards, faults));
    let point = fields.required("point", faults).and_then(|text| pick("point", text, wildcards, faults));
    let value = fields.text("value", faults).and_then(|text| pointer("value", text, faults));
    let time = fields.text("time", faults).and_then(|text| pointer("time", text, faults));
    Some(Subscription { filter: filter?, device: device?, point: point?, value, time })
}

fn filter(text: &Text, shape: Option<&[Option<String>]>, faults: &mut Faults) -> Option<TopicFilter> {
    match TopicFilter::parse(&text.text) {
        Err(why) => {
            faults.push(misfit("filter", text, why));
            None
        }
        Ok(filter) if shape.is_some_and(|shape| filter.may_cover(shape)) => {
            let problem = format!("filter \"{}\" covers topics this destination publishes to", text.text);
            faults.push(
                Diagnostic::error(text.place.clone(), problem)
                    .help("the gateway would read its own messages for ever; receive on topics of their own"),
            );
            None
        }
        Ok(filter) => Some(filter),
    }
}

/// A name, or `{1}` for what the first wildcard stood for.
fn pick(key: &str, text: Text, wildcards: usize, faults: &mut Faults) -> Option<Pick> {
    let Some(inside) = text.text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return Some(Pick::Fixed(text.text));
    };
    match inside.parse::<usize>() {
        Ok(number) if number >= 1 && number <= wildcards => Some(Pick::Wildcard(number - 1)),
        _ => {
            let help = "write a name, or {1} for what the first wildcard of filter stands for, {2} for the second";
            faults.push(misfit(key, &text, help));
            None
        }
    }
}

/// RFC 6901.
fn pointer(key: &str, text: Text, faults: &mut Faults) -> Option<String> {
    if text.text.starts_with('/') {
        return Some(text.text);
    }
    faults.push(misfit(key, &text, "write a JSON pointer such as /data/value; leave it out for the whole payload"));
    None
}
