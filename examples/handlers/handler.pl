#!/usr/bin/env perl
use strict; use warnings; use JSON::PP;
$| = 1;

sub work { my $n = shift->{payload}{n} // die "the payload has no n\n"; return { double => $n * 2 } }

while (my $line = <STDIN>) {
    my $job = decode_json($line);
    my $answer = eval { { id => $job->{id}, ok => work($job) } } || { id => $job->{id}, error => "$@" };
    print encode_json($answer), "\n";
}
