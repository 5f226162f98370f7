// SPDX-License-Identifier: BSL-1.0
/// The version of the library, for programs that serve several: `#if COHORT_VERSION >= 200`.
///
/// Before 1.0 a new minor version may change the interface, and a new patch version may not. From 1.0 on only a new
/// major version may. What two builds of a program may differ in that talk to each other is another number, and stands
/// at wire_version in ipc/codec/schema.hpp.
#pragma once

/// As one number: 10000 * major + 100 * minor + patch.
#define COHORT_VERSION 100
