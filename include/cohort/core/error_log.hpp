// SPDX-License-Identifier: BSL-1.0
/// What the library itself writes to the error output, and never waits for.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cohort::error_log {

/// Writes one line, to which the end of the line is added, to descriptor 2, if it takes the whole line now. Does not
/// wait: a pipe that nobody reads, a stopped terminal or a full disk costs the line, which lost() counts, and of which
/// the next line that is taken tells. Of a line of more than 2 KiB the rest is cut off.
///
/// Neither throws nor changes the descriptor's flags, which other processes share. Any thread may call it.
void write(std::string_view line) noexcept;

/// The lines that could not be written, since this process was started.
std::uint64_t lost() noexcept;

/// Opens /dev/null at each of the descriptors 0, 1 and 2 that is closed. Otherwise the next socket would get the
/// number, and what is written for people would go to its peer. Call it before anything else is opened.
void open_standard_descriptors() noexcept;

}  // namespace cohort::error_log

#ifndef COHORT_SEPARATE_COMPILATION
#include "error_log.ipp"
#endif
