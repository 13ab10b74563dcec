//! The classes of accelerators: what a pod asks for, and which taint its nodes usually carry.

use crate::api::{AcceleratorClass, Toleration};

/// One vendor's accelerators, as Kubernetes knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vendor {
    /// The class that users write.
    pub class: AcceleratorClass,
    /// The extended resource that the vendor's device plugin offers.
    pub resource: &'static str,
    /// The key of the taint by which nodes with such accelerators keep other pods away.
    pub taint: &'static str,
}

/// Every class but the CPU.
pub const VENDORS: [Vendor; 2] = [
    Vendor { class: AcceleratorClass::Nvidia, resource: "nvidia.com/gpu", taint: "nvidia.com/gpu" },
    Vendor { class: AcceleratorClass::Amd, resource: "amd.com/gpu", taint: "amd.com/gpu" },
];

/// The vendor of a class; none for the CPU.
pub fn of(class: AcceleratorClass) -> Option<&'static Vendor> {
    VENDORS.iter().find(|vendor| vendor.class == class)
}

impl Vendor {
    /// What lets a pod onto nodes that carry the taint, whatever its value.
    pub fn toleration(&self) -> Toleration {
        Toleration {
            key: Some(self.taint.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some("NoSchedule".to_owned()),
            ..Toleration::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_but_the_cpu_has_a_vendor() {
        assert_eq!(of(AcceleratorClass::Nvidia).map(|vendor| vendor.resource), Some("nvidia.com/gpu"));
        assert_eq!(of(AcceleratorClass::Amd).map(|vendor| vendor.resource), Some("amd.com/gpu"));
        assert_eq!(of(AcceleratorClass::None), None);
    }
}
