-- What an attempt that was tried again left behind: until now the next attempt wrote over it.
ALTER TABLE attempts ADD COLUMN detail TEXT;
