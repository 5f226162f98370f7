// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "proxy_protocol.hpp"

#include "../core/config.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <system_error>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <fmt/format.h>

#include "../core/error.hpp"
#include "../core/system.hpp"
#include "../core/text_of.hpp"

namespace cohort {

namespace detail {
namespace proxy_format {

inline constexpr std::string_view line_start = "PROXY ", signature("\r\n\r\n\0\r\nQUIT\n", 12);
inline constexpr std::size_t longest_line = 107, fixed_size = 16, tlv_head = 3;

[[noreturn]] COHORT_INLINE void bad(const std::string& what) {
  throw_error("proxy header: " + one_line(what), errc::bad_proxy_header);
}

/// Whether two texts are the same as far as the shorter one goes.
COHORT_INLINE bool agree(std::string_view one, std::string_view other) noexcept {
  const auto size = std::min(one.size(), other.size());
  return one.substr(0, size) == other.substr(0, size);
}

COHORT_INLINE std::uint16_t number_at(std::string_view bytes, std::size_t at) noexcept {
  return static_cast<std::uint16_t>(static_cast<std::uint8_t>(bytes[at]) * 256 +
                                    static_cast<std::uint8_t>(bytes[at + 1]));
}

/// The size of a header of version 2, from its first 16 bytes.
COHORT_INLINE std::size_t size_of(std::string_view bytes, std::size_t max_size) {
  const auto version = static_cast<std::uint8_t>(bytes[signature.size()]) >> 4;
  if (version != 2) bad(fmt::format("version {}", version));
  const std::size_t size = fixed_size + number_at(bytes, fixed_size - 2);
  if (size > max_size) bad(fmt::format("{} bytes, more than {}", size, max_size));
  return size;
}

/// An address of 4 or 16 bytes.
template <class Address>
asio::ip::address address_at(std::string_view bytes, std::size_t at) {
  typename Address::bytes_type number;
  std::memcpy(number.data(), bytes.data() + at, number.size());
  return Address(number);
}

/// Reads `SOURCE DESTINATION`, then their ports.
template <class Address>
void read_addresses(std::string_view bytes, proxy_header& into) {
  constexpr std::size_t size = std::tuple_size_v<typename Address::bytes_type>;
  into.source.emplace(address_at<Address>(bytes, 0), number_at(bytes, 2 * size));
  into.destination.emplace(address_at<Address>(bytes, size), number_at(bytes, 2 * size + 2));
}

inline constexpr std::size_t path_size = 108;

COHORT_INLINE std::string path_at(std::string_view bytes, std::size_t at) {
  const auto field = bytes.substr(at, path_size);
  if (field.front() != '\0') return std::string(field.substr(0, field.find('\0')));
  return std::string(field.substr(0, field.find_last_not_of('\0') + 1));
}

/// The size of the first addition; 0 if that is cut off, or there is none.
COHORT_INLINE std::size_t size_of_tlv(std::string_view tlvs) noexcept {
  if (tlvs.size() < tlv_head) return 0;
  const std::size_t size = tlv_head + number_at(tlvs, 1);
  return size <= tlvs.size() ? size : 0;
}

COHORT_INLINE bool are_whole(std::string_view tlvs) noexcept {
  while (const std::size_t size = size_of_tlv(tlvs)) tlvs.remove_prefix(size);
  return tlvs.empty();
}

COHORT_INLINE std::optional<std::string_view> find(std::string_view tlvs, std::uint8_t type) noexcept {
  while (const std::size_t size = size_of_tlv(tlvs)) {
    if (static_cast<std::uint8_t>(tlvs.front()) == type) return tlvs.substr(tlv_head, size - tlv_head);
    tlvs.remove_prefix(size);
  }
  return std::nullopt;
}

COHORT_INLINE proxy_header read_binary(std::string_view bytes) {
  proxy_header result;
  result.version = 2;
  const unsigned command = bytes[12] & 0x0f, kind = static_cast<std::uint8_t>(bytes[13]);
  if (command > 1) bad(fmt::format("command {}", command));
  result.local = command == 0;
  if (result.local) return result;  // the protocol has all the rest ignored

  const unsigned family = kind >> 4, transport = kind & 0x0f;
  constexpr std::array<std::size_t, 4> sizes{0, 12, 36, 2 * path_size};
  if (family >= sizes.size() || transport > 2) bad(fmt::format("address family and protocol 0x{:02x}", kind));
  auto rest = bytes.substr(fixed_size);
  if (rest.size() < sizes[family]) {
    bad(fmt::format("{} bytes for addresses of family and protocol 0x{:02x}", rest.size(), kind));
  }
  if (kind == 0x11) read_addresses<asio::ip::address_v4>(rest, result);
  if (kind == 0x21) read_addresses<asio::ip::address_v6>(rest, result);
  if (kind == 0x31) {
    result.source_path = path_at(rest, 0);
    result.destination_path = path_at(rest, path_size);
  }
  rest.remove_prefix(sizes[family]);
  if (are_whole(rest)) {
    result.tlvs = rest;
  } else if (family != 0) {  // without a family it may be an address of any form
    bad(fmt::format("additions that do not end after {} bytes", rest.size()));
  }
  return result;
}

COHORT_INLINE asio::ip::address address_of(std::string_view text, bool is_v6) {
  const std::string copy(text);
  in_addr v4{};
  in6_addr v6{};
  // The characters first: inet_pton() would stop at a zero byte.
  const auto allowed = is_v6 ? "0123456789abcdefABCDEF:." : "0123456789.";
  const bool good = text.find_first_not_of(allowed) == text.npos &&
                    (is_v6 ? ::inet_pton(AF_INET6, copy.c_str(), &v6) : ::inet_pton(AF_INET, copy.c_str(), &v4)) == 1;
  if (!good) bad(fmt::format("address \"{}\"", text));
  if (is_v6) return address_at<asio::ip::address_v6>({reinterpret_cast<const char*>(&v6), sizeof v6}, 0);
  return address_at<asio::ip::address_v4>({reinterpret_cast<const char*>(&v4), sizeof v4}, 0);
}

COHORT_INLINE std::uint16_t port_of(std::string_view text) {
  std::uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, port);
  const bool leading_zero = text.size() > 1 && text.front() == '0';
  if (parsed.ec != std::errc() || parsed.ptr != end || leading_zero) bad(fmt::format("port \"{}\"", text));
  return port;
}

COHORT_INLINE proxy_header read_text(std::string_view line) {
  if (!line.ends_with("\r\n")) bad("a line that ends without a carriage return");
  line.remove_suffix(2);
  line.remove_prefix(line_start.size());
  proxy_header result;
  result.version = 1;
  std::array<std::string_view, 5> fields;  // protocol, source, destination, and their ports
  for (auto& field : fields) {
    const auto end = &field == &fields.back() ? line.size() : std::min(line.find(' '), line.size());
    field = line.substr(0, end);
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  const auto [protocol, source, destination, source_port, destination_port] = fields;
  if (protocol == "UNKNOWN") return result;  // whatever else there is
  if (protocol != "TCP4" && protocol != "TCP6") bad(fmt::format("protocol \"{}\"", protocol));
  const bool is_v6 = protocol == "TCP6";
  const auto from = address_of(source, is_v6), to = address_of(destination, is_v6);
  const auto from_port = port_of(source_port), to_port = port_of(destination_port);
  result.source.emplace(from, from_port);
  result.destination.emplace(to, to_port);
  return result;
}

}  // namespace proxy_format

COHORT_INLINE std::size_t proxy_header_reader::receive(int fd, char* to, std::size_t size, int flags) const {
  iovec part{to, size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  const auto got = system::retry(system::call.recvmsg, fd, &message, flags | MSG_DONTWAIT);
  if (got > 0) return static_cast<std::size_t>(got);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return 0;
  if (got < 0) throw_error("proxy header: receive", errno);
  const std::error_code end = asio_error(asio::error::eof);
  throw_error(fmt::format("proxy header: the connection has ended after {} bytes", bytes_.size()), end);
}

COHORT_INLINE std::size_t proxy_header_reader::receive_line(int fd) {
  using namespace proxy_format;
  std::array<char, longest_line> piece;
  const std::size_t seen = receive(fd, piece.data(), longest_line - bytes_.size(), MSG_PEEK);
  if (seen == 0) return 0;
  const std::string_view bytes(piece.data(), seen);
  if (bytes_.empty() && bytes.front() == signature.front()) {
    size_ = fixed_size;
    return seen;
  }
  const auto expected = line_start.substr(std::min(bytes_.size(), line_start.size()));
  if (!agree(bytes, expected)) bad(fmt::format("begins with \"{}{}\"", bytes_, bytes.substr(0, 16)));
  // Without an end, all of it is the line's, and must not stay: each wait for more would end at once.
  const auto end = bytes.find('\n');
  const std::size_t taken = receive(fd, piece.data(), end == bytes.npos ? seen : end + 1, 0);
  bytes_.append(piece.data(), taken);
  complete_ = bytes_.ends_with('\n');
  if (!complete_ && bytes_.size() == longest_line) bad(fmt::format("a line of more than {} bytes", longest_line));
  return taken;
}

COHORT_INLINE std::size_t proxy_header_reader::receive_binary(int fd) {
  using namespace proxy_format;
  std::array<char, 512> piece;
  const std::size_t taken = receive(fd, piece.data(), std::min(piece.size(), size_ - bytes_.size()), 0);
  if (taken == 0) return 0;
  bytes_.append(piece.data(), taken);
  if (!agree(bytes_, signature)) bad(fmt::format("begins with \"{}\"", bytes_));
  if (bytes_.size() == fixed_size) size_ = size_of(bytes_, options_.max_size);
  complete_ = bytes_.size() == size_;
  return taken;
}

COHORT_INLINE bool proxy_header_reader::read(int fd) {
  while (!complete_) {
    const std::size_t taken = size_ == 0 ? receive_line(fd) : receive_binary(fd);
    if (taken == 0) return false;
  }
  return true;
}

COHORT_INLINE proxy_header proxy_header_reader::header() const {
  return size_ == 0 ? proxy_format::read_text(bytes_) : proxy_format::read_binary(bytes_);
}

COHORT_INLINE void proxy_header_reader::rethrow() const {
  const auto error = caught();
  if (error.code() != errc::timed_out) throw;
  const auto limit = options_.timeout.count();
  throw_error(fmt::format("proxy header: {} bytes of it within {} ms", bytes_.size(), limit), errc::timed_out);
}

}  // namespace detail

COHORT_INLINE std::optional<std::string_view> proxy_header::tlv(std::uint8_t type) const& noexcept {
  return detail::proxy_format::find(tlvs, type);
}

COHORT_INLINE std::optional<std::string_view> proxy_header::ssl_tlv(std::uint8_t type) const& noexcept {
  constexpr std::size_t verdict = 5;  // whether there was a certificate, and a good one
  const auto ssl = tlv(proxy_tlv::ssl);
  if (!ssl || ssl->size() < verdict) return std::nullopt;
  return detail::proxy_format::find(ssl->substr(verdict), type);
}

}  // namespace cohort
