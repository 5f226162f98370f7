// All that is looked at of a fmt that is too old.
#define FMT_VERSION 80101
