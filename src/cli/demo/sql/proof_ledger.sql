select file, count(*) from demo.ledger group by file
