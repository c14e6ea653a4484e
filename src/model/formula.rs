//! PURE. Mapping formulas: what makes a measurement point out of points. A bounded, total language; nothing is evaluated as code.

/// A formula whose points are rows of the template's point table.
#[derive(Clone, Debug, PartialEq)]
pub struct Formula {
    pub function: Function,
    pub arguments: Vec<Argument>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// Row of the point table, from 0.
    Point(u32),
    Constant(f64),
}

/// The functions of the mapping table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// y = x1
    Equal,
    /// y = x1 + … + xn
    Sum,
    /// y = x1 - x2
    Subtraction,
    /// y = a · x1 · … · xn
    Product,
    /// y = x1 / x2
    Ratio,
    /// y = x1 / (x2 + x3)
    RatioAgainstSum,
    /// y = a · (x1·x2 + x3·x4 + …)
    CrossProduct,
}
