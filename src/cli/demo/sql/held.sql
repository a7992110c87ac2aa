select count(*) from rowcrew.running where worker = $1
