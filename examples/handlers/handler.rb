#!/usr/bin/env ruby
require "json"
$stdout.sync = true

def work(job) = { double: job["payload"]["n"] * 2 }

while (line = $stdin.gets)
  job = JSON.parse(line)
  begin
    puts JSON.generate(id: job["id"], ok: work(job))
  rescue StandardError => error
    puts JSON.generate(id: job["id"], error: error.message, detail: error.backtrace.join("\n"))
  end
end
