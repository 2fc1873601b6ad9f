# jsonlite and curl: as golden.py, whose arguments it takes. Values go through R's own numbers and back to JSON.
library(jsonlite)
library(curl)

arguments <- commandArgs(trailingOnly = TRUE)

post <- function(path, body) {
  handle <- new_handle(post = TRUE, postfieldsize = length(body), postfields = body)
  handle_setheaders(handle, "Content-Type" = "application/json")
  curl_fetch_memory(paste0("http://", arguments[1], path), handle)
}

# jsonlite writes 15 digits at most, a double may have 17.
written <- function(value) if (is.numeric(value)) sprintf("%.17g", value) else toJSON(value, auto_unbox = TRUE, null = "null")
encoded <- function(row) {
  members <- paste0(vapply(names(row), toJSON, "", auto_unbox = TRUE), ":", vapply(row, written, ""))
  charToRaw(enc2utf8(paste0("{", paste(members, collapse = ","), "}")))
}

if (arguments[2] == "golden") {
  for (line in readLines(arguments[3], warn = FALSE, encoding = "UTF-8")) {
    answer <- fromJSON(rawToChar(post("/predict", encoded(fromJSON(line)))$content))
    cat(paste(rev(format(writeBin(answer$probability, raw(), endian = "little"))), collapse = ""), "\n", sep = "")
  }
} else {
  for (turn in seq_len(as.integer(arguments[3]))) {
    cat(post("/predict", raw(20e6))$status_code, "\n")
    cat(post("/predict/batch", raw(40e6))$status_code, "\n")
  }
}
