DROP TABLE millstream.document_note, millstream.embedding, millstream.product,
  millstream.chunk_analysis, millstream.chunk, millstream.image, millstream.page,
  millstream.stage, millstream.upload, millstream.document;
DELETE FROM millstream.kind WHERE name LIKE 'document.%';
