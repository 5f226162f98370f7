// SPDX-License-Identifier: BSL-1.0
// Finds the host in the head of an HTTP request.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <string>
#include <string_view>

#include <http_parser.h>

class host_finder {
 public:
  host_finder() {
    http_parser_init(&parser_, HTTP_REQUEST);
    parser_.data = this;
  }

  /// Goes on with what has been read; false when enough is known: the host, that there is none, or that this is no
  /// HTTP.
  bool wants_more(std::string_view bytes) {
    http_parser_execute(&parser_, &callbacks, bytes.data(), bytes.size());
    return HTTP_PARSER_ERRNO(&parser_) == HPE_OK;
  }

  /// In lower case and without a port; empty if there is none.
  std::string host() const {
    std::string result = host_.substr(0, host_.find(':'));
    std::transform(result.begin(), result.end(), result.begin(), lower);
    return result;
  }

 private:
  static char lower(char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }

  bool in_host() const {
    constexpr std::string_view name = "host";
    return std::equal(field_.begin(), field_.end(), name.begin(), name.end(),
                      [](char is, char wanted) { return lower(is) == wanted; });
  }

  static host_finder& of(http_parser* parser) { return *static_cast<host_finder*>(parser->data); }

  // A name or a value may come in several parts, where one read ends and the next begins.
  static int on_field(http_parser* parser, const char* data, std::size_t size) {
    host_finder& self = of(parser);
    if (self.after_value_) self.field_.clear();
    self.after_value_ = false;
    self.field_.append(data, size);
    return 0;
  }

  static int on_value(http_parser* parser, const char* data, std::size_t size) {
    host_finder& self = of(parser);
    self.after_value_ = true;
    if (self.in_host()) self.host_.append(data, size);
    return 0;
  }

  static int on_head(http_parser* parser) {
    http_parser_pause(parser, 1);
    return 0;
  }

  static constexpr http_parser_settings callbacks = {nullptr, nullptr, nullptr, on_field, on_value,
                                                     on_head, nullptr, nullptr, nullptr,  nullptr};

  http_parser parser_;
  std::string field_;
  std::string host_;
  bool after_value_ = false;
};
