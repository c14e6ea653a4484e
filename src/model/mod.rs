//! PURE nouns all share. No tokio, no file system, no socket, no clock.

pub mod accept;
pub mod accounting;
pub mod arrivals;
pub mod batch;
pub mod cloud_ask;
pub mod command;
pub mod control;
pub mod delivery;
pub mod field;
pub mod formula;
pub mod identity;
pub mod late;
pub mod names;
pub mod notice;
pub mod secret;
pub mod selection;
pub mod site;
pub mod thing_model;
pub mod topic;

pub use arrivals::{Accepted, Arrivals, Origin, Refused};
pub use batch::{Batch, BatchBuilder, Block, Entry, ValueRef};
pub use command::{Command, Commands, Outcome};
pub use control::CommandRules;
pub use delivery::{Inlet, Lane, Outlet, Parcel, SetAside};
pub use driver::{Datum, Reason, Sample, Timestamp, Value};
pub use field::{Field, SecretShelf};
pub use formula::{Argument, Formula, Function};
pub use identity::Identity;
pub use late::{LatePolicy, LateRules};
pub use names::{DeviceNames, Names, PointName, PointNames};
pub use notice::{Notice, Notices};
pub use secret::Secret;
pub use selection::{AssetKind, Glob, Selection};
pub use site::{ConnectedDevice, Connection, Control, Credential, DeviceDetails, PackageName, Rule, Site, Template};
pub use thing_model::{DataType, Measurepoint, Signal, ThingModel, Upload};
pub use topic::TopicFilter;
