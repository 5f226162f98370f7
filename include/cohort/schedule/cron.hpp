// SPDX-License-Identifier: BSL-1.0
/// Cron expressions, and the times that they stand for: plain data.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "../core/error.hpp"

namespace cohort {

/// In which time a `cron` is read.
enum class time_zone {
  utc,
  local,  ///< the zone of this process as localtime_r(3) has it; a TZ that changes counts from the next tzset(3) on
};

namespace detail {

/// One field of a cron expression, and the set of its values that an expression names, a bit for each.
struct cron_field {
  std::string_view name;
  unsigned first, last;
  std::string_view names;  // of three letters each, for the values from `first` on

  std::uint64_t all() const noexcept { return ((std::uint64_t{2} << last) - 1) >> first << first; }

  std::uint64_t parse(std::string_view text) const;

  [[noreturn]] void fail(std::string_view text, std::string_view why) const;

 private:
  std::uint64_t item(std::string_view one, std::string_view text) const;

  unsigned value(std::string_view one, std::string_view text) const;

  unsigned number(std::string_view digits, std::string_view text) const;

  static bool equal(std::string_view text, std::string_view name_in_capitals) noexcept;
};

inline constexpr cron_field cron_second{"second", 0, 59, ""};
inline constexpr cron_field cron_minute{"minute", 0, 59, ""};
inline constexpr cron_field cron_hour{"hour", 0, 23, ""};
inline constexpr cron_field cron_day{"day of month", 1, 31, ""};
inline constexpr cron_field cron_month{"month", 1, 12, "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC"};
inline constexpr cron_field cron_weekday{"day of week", 0, 7, "SUNMONTUEWEDTHUFRISAT"};

/// Local time, by the C library.
struct local_zone {
  using seconds = std::chrono::seconds;
  using sys_seconds = std::chrono::sys_seconds;
  using local_seconds = std::chrono::local_seconds;

  /// What is to be added to UTC.
  static seconds offset_at(sys_seconds time);

  static local_seconds local(sys_seconds time, seconds offset) noexcept;

  static sys_seconds utc(local_seconds time, seconds offset) noexcept;

  /// The first moment with another offset than `before` has, when `after` has another one.
  static sys_seconds change_between(sys_seconds before, sys_seconds after);

  /// When the clock shows `time` for the first time, or is put forward over it.
  static sys_seconds first_moment_of(local_seconds time);
};

}  // namespace detail

/// Times of the calendar, by an expression as crontab(5) has it: of five fields (minute, hour, day of month, month, day
/// of week), or of six, with the second in front.
///
///     cohort::cron("30 3 * * MON-FRI")        // at 03:30 from Monday to Friday
///     cohort::cron("*/10 * * * * *")          // each ten seconds
///
/// A field is a list, with commas, of `*`, values and ranges `a-b`; `*` and ranges may have a step, `*/5`. Months and
/// days of the week may be named, JAN or mon; Sunday is 0 and 7. When neither the day of the month nor that of the week
/// begins with `*`, a day is meant that fits either; otherwise, one that fits both. `@yearly`, `@annually`,
/// `@monthly`, `@weekly`, `@daily`, `@midnight` and `@hourly` stand for what they say.
///
/// In local time, where clocks are put forward and back:
/// - An expression that names hours has each time that it names once a day. One that the clock jumps over is at the
///   moment of the jump (several of them together are one); one that the clock shows twice is the first of the two.
/// - An expression for all hours (`*`) goes by the hours that pass: it has its times in the hour that comes twice,
///   both times, and nothing in place of the hour that is left out. So `*/5 * * * *` never pauses.
///
/// Distinct objects: safe. Shared objects: unsafe, except through const.
class cron {
 public:
  /// Throws errc::invalid_option with the name and the text of the field that is wrong, also for a day that no year has
  /// (30 February).
  explicit cron(std::string_view expression);

  /// The expression as it was given.
  const std::string& text() const noexcept { return text_; }

  /// The first time after `time`. There is always one, within 41 years.
  std::chrono::sys_seconds next_after(std::chrono::system_clock::time_point time, time_zone zone) const;

 private:
  using local = detail::local_zone;
  using sys_seconds = std::chrono::sys_seconds;
  using local_seconds = std::chrono::local_seconds;

  static std::string_view alias(std::string_view expression);

  static std::vector<std::string_view> split(std::string_view expression);

  int longest_month() const noexcept;

  static bool has(std::uint64_t set, unsigned value) noexcept { return (set >> value & 1) != 0; }

  bool has_day(std::chrono::local_days day, std::chrono::year_month_day date) const noexcept;

  /// The first value of the set that is not below `least`; 64 if there is none.
  static unsigned first_from(std::uint64_t set, unsigned least) noexcept;

  /// The first time of a day that is not before `least`; a whole day if there is none.
  std::chrono::seconds time_from(std::chrono::seconds least) const noexcept;

  /// The first time after `time` that the fields name, whatever clocks do.
  local_seconds next_match(local_seconds time) const;

  sys_seconds next_by_clock(sys_seconds after) const;

  sys_seconds next_by_hours(sys_seconds after) const;

  std::string text_;
  std::uint64_t seconds_, minutes_, hours_, days_, months_, weekdays_;
  bool either_day_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "cron.ipp"
#endif
