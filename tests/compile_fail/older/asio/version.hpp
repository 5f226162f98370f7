// All that is looked at of an Asio that is too old.
#define ASIO_VERSION 101801
